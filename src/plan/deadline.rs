//! When a session ends if nothing happens. Owns the list of deadlines, the nearest of them and their
//! warnings; not the rules that they come from.

use crate::api::reason::Reason;
use crate::api::time::{Instant, ceil_second, display};
use crate::plan::policy::InForce;

/// An end that time brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When the session ends, a whole second.
    pub at: Instant,
    /// From when on its user is warned.
    pub warn_from: Instant,
    /// What it ends for.
    pub reason: Reason,
}

impl Deadline {
    /// The warning for people: when, why, and how to stay.
    pub fn warning(&self) -> String {
        let stay = match self.reason {
            Reason::IdleTimeout => "any activity keeps it",
            Reason::WorkspaceDeleted => "its Workspace is gone: save your work",
            Reason::LimitExceeded => "another session of yours waits for its place: save your work",
            Reason::AdministratorEnded => "its node is being drained: save your work and launch again",
            _ => "save your work and launch again",
        };
        format!("ends at {} ({}): {stay}", display(self.at), self.reason.as_str())
    }
}

/// The deadlines of a session that is usable since `ready`, was last used at `last`, and whose Workspace is
/// gone since `workspace_gone`; the nearest first. Before `unheard` nobody is disconnected for idleness, whatever the rules.
pub fn deadlines(
    force: &InForce,
    ready: Instant,
    last: Instant,
    unheard: Option<Instant>,
    workspace_gone: Option<Instant>,
) -> Vec<Deadline> {
    let InForce { rules, idle_not_before, max_duration_not_before, drain_ends_at, displaced_at } = force;
    let at_least =
        |deadline: Instant, floor: Option<Instant>| ceil_second(floor.map_or(deadline, |floor| floor.max(deadline)));
    let idle = at_least(last + rules.disconnect_after, unheard.max(*idle_not_before));
    let longest = at_least(ready + rules.max_duration, *max_duration_not_before);
    let mut all = vec![
        Deadline { at: idle, warn_from: idle - rules.idle_notice(), reason: Reason::IdleTimeout },
        Deadline { at: longest, warn_from: longest - rules.warn_before, reason: Reason::MaxDuration },
    ];
    if let Some(gone) = workspace_gone {
        let at = ceil_second(gone + rules.warn_before);
        all.push(Deadline { at, warn_from: gone, reason: Reason::WorkspaceDeleted });
    }
    if let Some(at) = *drain_ends_at {
        all.push(Deadline { at, warn_from: at - rules.warn_before, reason: Reason::AdministratorEnded });
    }
    if let Some(at) = *displaced_at {
        all.push(Deadline { at, warn_from: at - rules.warn_before, reason: Reason::LimitExceeded });
    }
    all.sort_by_key(|deadline| deadline.at);
    all
}
