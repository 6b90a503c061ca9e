//! The keys by which caches find objects that are not asked for by name. Owns how they are written; which object has which is said
//! where the caches are made.

use crate::api::Session;
use crate::api::condition::{self, Type};

/// How far a session is in its Workspace, as its status says. Those that hold a slot are counted at every launch, and not walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has no slot yet, by its own word.
    Waits,
    /// It holds a slot.
    Holds,
    /// It has ended.
    Ended,
}

impl Stage {
    pub(super) const ALL: [Self; 3] = [Self::Waits, Self::Holds, Self::Ended];

    /// How far this one is.
    pub fn of(session: &Session) -> Self {
        match &session.status {
            Some(status) if status.ended_at.is_some() => Self::Ended,
            Some(status) if condition::is_true(&status.conditions, Type::Admitted) => Self::Holds,
            _ => Self::Waits,
        }
    }
}

/// The key of the sessions of a Workspace that are so far. No name of an object has such a letter.
pub(super) fn stage_key(namespace: &str, workspace: &str, stage: Stage) -> String {
    format!("{namespace}/{workspace}\0{stage:?}")
}

/// The key of what belongs to the object of this name: under that of what it has a Workspace is found.
pub fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// The key of the pods of the pool of the Workspace of this uid that serve no session. No uid has such a letter.
pub fn pool_key(workspace_uid: &str) -> String {
    format!("{workspace_uid}\0")
}

/// The key of all pods that were made for a place of that pool.
pub fn place_key(workspace_uid: &str, slot: u32) -> String {
    format!("{workspace_uid}\0{slot}")
}

/// The key of the sessions of a user in a namespace. No name of an object has such a letter.
pub fn user_key(namespace: &str, user: &str) -> String {
    format!("{namespace}\0{user}")
}
