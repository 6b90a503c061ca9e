//! What has to stand before any instance of a Workspace is made, for a session or for its pool: a template that may be launched,
//! the wall, and the key of its credentials. Owns these checks; whose turn it is is `admission`'s.

use crate::api::Workspace;
use crate::api::condition::{self, Condition, Type};
use crate::plan::admission::Blocker;
use crate::plan::contract::Credential;
use crate::plan::hardening::Hardening;
use crate::plan::network::Fence;
use crate::plan::{pool, template, workspace};

/// What of it is missing, in the order in which people can do something about it.
///
/// # Errors
/// The first that is missing.
pub fn stands(
    workspace: &Workspace,
    hardening: &Hardening,
    fence: &Fence,
    secret: Option<&Result<Credential, String>>,
) -> Result<(), Blocker> {
    sound_template(workspace, hardening)?;
    fenced(fence)?;
    match secret {
        Some(Err(why)) => Err(Blocker::Unkeyed(why.clone())),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// Whether the template, as it is written now, may be launched: by our own rules, and by the API server's word. A
/// launch waits for that, which comes at once: one that it refuses would fail for good.
fn sound_template(workspace: &Workspace, hardening: &Hardening) -> Result<(), Blocker> {
    let Some(template) = &workspace.spec.template else { return Ok(()) };
    template::check(template, hardening).map_err(Blocker::TemplateInvalid)?;
    let status = workspace.status.as_ref();
    let of_this = |valid: &&Condition| {
        let hash = || pool::template_hash(workspace, template, hardening);
        valid.observed_generation == workspace.metadata.generation
            || status.and_then(|status| status.template_hash.as_ref()).is_some_and(|judged| *judged == hash())
    };
    let said = status
        .and_then(|status| condition::find(&status.conditions, Type::TemplateValid))
        .filter(of_this)
        .ok_or(Blocker::TemplateUntried)?;
    match said.status {
        condition::Status::False => Err(Blocker::TemplateInvalid(said.message.clone())),
        // It was given under other settings, or by another version: it is about to be asked for again.
        condition::Status::True if said.message != workspace::accepted(hardening) => Err(Blocker::TemplateUntried),
        condition::Status::True | condition::Status::Unknown => Ok(()),
    }
}

/// Whether the wall stands that the instance is to be behind from its first moment.
fn fenced(fence: &Fence) -> Result<(), Blocker> {
    match fence {
        Fence::Unneeded | Fence::Unwanted { .. } | Fence::Stands => Ok(()),
        Fence::Wanting { failed: None, .. } => Err(Blocker::Unfenced(None)),
        Fence::Wanting { failed: Some((_, why)), .. } | Fence::Impossible(why) => {
            Err(Blocker::Unfenced(Some(why.clone())))
        }
        Fence::Going => Err(Blocker::Unfenced(Some("it is being deleted".to_owned()))),
    }
}
