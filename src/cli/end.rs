//! `kubectl berth end`: sessions are asked to end by their `spec.desiredState`, and waited for. Owns the request and
//! its telling for one session; `end_all` chooses many.

use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::objects::{self, full_name, no_such_session};
use super::output::{self, Format, print};
use super::target::{Target, TargetFlags};
use super::view;
use super::wait::{Followed, Progress, follow, patience};
use crate::api::Session;
use crate::api::session::DesiredState;

/// How many sessions are ended at the same time.
const AT_ONCE: usize = 8;

/// End sessions: what was provisioned for them is released
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  kubectl berth end terminal-x7k2p                     as its user does; it becomes Disconnected
  kubectl berth end terminal-x7k2p --terminate         as an administrator; it becomes Terminated
  kubectl berth end a b c --no-wait

An end cannot be taken back. A session that has ended already is no failure.")]
pub struct End {
    /// The sessions.
    #[arg(value_name = "SESSION", required = true)]
    live_sessions: Vec<String>,
    #[command(flatten)]
    ending: EndFlags,
}

/// How sessions are ended.
#[derive(clap::Args, Clone, Debug)]
pub struct EndFlags {
    /// As an administrator ends them: Terminated, for the reason AdministratorEnded.
    #[arg(long)]
    pub terminate: bool,
    /// Wait until they have ended.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub wait: bool,
    /// Ask for the end alone.
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
    /// How long to wait for each.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = patience)]
    pub timeout: Duration,
    /// How to print.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// What became of one session.
struct Told {
    session: Session,
    words: String,
}

impl End {
    /// Ends them.
    ///
    /// # Errors
    /// When nothing could be tried; a failure with one session does not stop the others.
    pub async fn run(self, flags: &TargetFlags) -> Result<Exit, Failure> {
        let target = flags.connect().await?;
        let namespace = target.namespace.clone();
        let sessions = self.live_sessions.iter().map(|name| (namespace.clone(), name.clone())).collect();
        end(&target, sessions, &self.ending, false).await
    }
}

/// Ends the sessions, each by its namespace and name, and tells of each as it goes. `with_namespace` names it too.
///
/// # Errors
/// When nothing can be printed any more.
pub async fn end(
    target: &Target,
    sessions: Vec<(String, String)>,
    how: &EndFlags,
    with_namespace: bool,
) -> Result<Exit, Failure> {
    let ends = sessions.iter().map(|(namespace, name)| end_one(target, namespace, name, how));
    let mut told = stream::iter(ends).buffered(AT_ONCE);
    let (mut exits, mut ended, mut number) = (Vec::new(), Vec::new(), 0);
    while let Some(one) = told.next().await {
        let (namespace, name) = &sessions[number];
        number += 1;
        match one {
            Ok(told) => {
                let place = if with_namespace { format!(" in namespace {namespace}") } else { String::new() };
                match how.format {
                    Format::Table | Format::Wide => {
                        print(&format!("{}{place} {}", full_name::<Session>(name), output::clean(&told.words)))?;
                    }
                    Format::Name => print(&full_name::<Session>(name))?,
                    Format::Json | Format::Yaml => ended.push(whole(&told.session)?),
                }
                exits.push(Exit::Done);
            }
            Err(failure) => {
                failure.tell();
                exits.push(failure.exit);
            }
        }
    }
    if let Some(document) = output::document(&output::list_of(ended), how.format)? {
        print(&document)?;
    }
    Ok(Exit::of_several(exits))
}

fn whole(session: &Session) -> Result<Value, Failure> {
    let mut session = session.clone();
    session.metadata.managed_fields = None;
    serde_json::to_value(&session)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot print the session: {error}")))
}

async fn end_one(target: &Target, namespace: &str, name: &str, how: &EndFlags) -> Result<Told, Failure> {
    let within = target.within(namespace);
    let Some(found) = objects::find::<Session>(&within, name).await? else {
        return Err(no_such_session(&within, name).await);
    };
    let session = found.object;
    if !view::is_live(&session) {
        return Ok(Told { words: format!("has ended already: {}", how_it_ended(&session)), session });
    }
    let wanted = if how.terminate { DesiredState::Terminated } else { DesiredState::Disconnected };
    let session = match asks_for(&session, wanted) {
        Some(state) => {
            objects::patch(target, namespace, name, json!({ "desiredState": state })).await.map_err(hinted)?
        }
        None => session,
    };
    if how.no_wait || !how.wait {
        return Ok(Told { words: "ends".to_owned(), session });
    }
    let mut progress = Progress::still();
    let look = |session: Option<&Session>, _: &mut Progress| match session {
        None => Some(None),
        Some(session) if !view::is_live(session) => Some(Some(session.clone())),
        Some(_) => None,
    };
    match follow(target, namespace, name, how.timeout, &mut progress, look).await? {
        Followed::Reached(Some(session)) => Ok(Told { words: format!("ended: {}", how_it_ended(&session)), session }),
        Followed::Reached(None) => Ok(Told { words: "is gone".to_owned(), session }),
        Followed::TimedOut => Err(Failure::new(Exit::TimedOut, format!("session {name} has not ended in time"))
            .next("it was asked to, and the operator goes on; `kubectl berth doctor` says whether one runs")),
        Followed::Interrupted => Err(Failure::new(
            Exit::Interrupted,
            format!("not waiting for session {name} any more: it ends all the same"),
        )),
    }
}

/// Who may not patch may still delete.
fn hinted(failure: Failure) -> Failure {
    if failure.exit == Exit::Refused {
        failure.next("where you may delete it, `kubectl delete session` ends it too; nothing stays as history then")
    } else {
        failure
    }
}

/// The state to write, or nothing where what stands is as far or farther: it moves only towards the end.
fn asks_for(session: &Session, wanted: DesiredState) -> Option<DesiredState> {
    (session.spec.desired_state < wanted).then_some(wanted)
}

/// How a session ended: phase, reason and duration.
fn how_it_ended(session: &Session) -> String {
    let status = view::status(session);
    let reason = status.reason.map(|reason| format!(" ({})", reason.as_str())).unwrap_or_default();
    let duration = status.duration.map(|duration| format!(" after {duration}")).unwrap_or_default();
    format!("{}{reason}{duration}", view::phase(session))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::tests::{second, session};

    #[test]
    fn an_end_is_asked_for_once_and_never_taken_back() {
        let mut ending = session("a", json!({}));
        assert_eq!(asks_for(&ending, DesiredState::Disconnected), Some(DesiredState::Disconnected));
        ending.spec.desired_state = DesiredState::Disconnected;
        assert_eq!(asks_for(&ending, DesiredState::Disconnected), None);
        assert_eq!(asks_for(&ending, DesiredState::Terminated), Some(DesiredState::Terminated));
        ending.spec.desired_state = DesiredState::Terminated;
        assert_eq!(asks_for(&ending, DesiredState::Disconnected), None);
    }

    #[test]
    fn an_end_is_told_with_its_reason_and_duration() {
        let ended = json!({
            "phase": "Terminated", "reason": "AdministratorEnded", "duration": "5m", "endedAt": second(9).to_rfc3339(),
        });
        assert_eq!(how_it_ended(&session("a", ended)), "Terminated (AdministratorEnded) after 5m");
    }
}
