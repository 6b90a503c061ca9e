//! The matrix of phases and events: what may follow what. Every transition that the session's planner makes
//! goes through [`next`]; docs/states.md is made from the same table.

use crate::api::reason::Reason;
use crate::api::session::{EndAs, Phase};

/// What can befall a live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A slot is free and it is this session's turn.
    SlotGranted,
    /// The instance can be used.
    InstanceUsable,
    /// There was input within `idle.after`.
    InputSeen,
    /// There was no input for `idle.after`.
    NoInput,
    /// Nobody can say whether there is input.
    ActivityUnknown,
    /// No slot is free, and the session did not want to wait.
    NoSlot,
    /// It waited for `queueTimeout`.
    QueueTimeout,
    /// The instance was not usable within `startTimeout`.
    StartTimeout,
    /// The API server refuses what the template makes.
    InstanceRefused,
    /// The instance was deleted, evicted or broke beyond repair.
    InstanceLost,
    /// No input for `idle.disconnectAfter`.
    IdleTimeout,
    /// `maxDuration` has passed.
    MaxDuration,
    /// `spec.desiredState` is Disconnected.
    DisconnectDesired,
    /// `spec.desiredState` is Terminated.
    TerminationDesired,
    /// `status.endRequest` asks for an end.
    EndRequested(EndAs, Reason),
    /// The Workspace is gone and the notice is over.
    WorkspaceDeleted,
    /// The node is being drained, the Workspace says `drain: End`, and the notice is over.
    NodeDrained,
    /// The Session is being deleted.
    SessionDeleted,
}

/// What an event does to a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Stay,
    /// The session goes on in this phase.
    Go(Phase),
    /// The session ends in this phase, for this reason.
    End(Phase, Reason),
}

/// What follows when `event` befalls a session in `phase`.
pub fn next(phase: Phase, event: Event) -> Next {
    use Phase::{Active, Disconnected, Failed, Idle, Pending, Starting, Terminated};
    match (phase, event) {
        // Nothing leaves an ended phase.
        (Disconnected | Terminated | Failed, _) => Next::Stay,

        (Pending, Event::SlotGranted) => Next::Go(Starting),
        (Pending, Event::NoSlot) => Next::End(Failed, Reason::LimitExceeded),
        (Pending, Event::QueueTimeout) => Next::End(Failed, Reason::QueueTimeout),
        (Starting, Event::InstanceUsable) => Next::Go(Active),
        (Starting, Event::StartTimeout) => Next::End(Failed, Reason::StartTimeout),
        (Starting, Event::InstanceRefused) => Next::End(Failed, Reason::InvalidSpec),
        (Active, Event::NoInput) => Next::Go(Idle),
        // Unknown is not idle.
        (Idle, Event::InputSeen | Event::ActivityUnknown) => Next::Go(Active),

        (Active | Idle, Event::IdleTimeout) => Next::End(Disconnected, Reason::IdleTimeout),
        (Active | Idle, Event::MaxDuration) => Next::End(Terminated, Reason::MaxDuration),
        (Active | Idle, Event::NodeDrained) => Next::End(Terminated, Reason::AdministratorEnded),
        (Starting | Active | Idle, Event::InstanceLost) => Next::End(Failed, Reason::InstanceLost),

        (_, Event::DisconnectDesired) => Next::End(Disconnected, Reason::UserDisconnected),
        (_, Event::TerminationDesired) => Next::End(Terminated, Reason::AdministratorEnded),
        (_, Event::EndRequested(EndAs::Disconnected, reason)) => Next::End(Disconnected, reason),
        (_, Event::EndRequested(EndAs::Terminated, reason)) => Next::End(Terminated, reason),
        (_, Event::WorkspaceDeleted) => Next::End(Terminated, Reason::WorkspaceDeleted),
        (_, Event::SessionDeleted) => Next::End(Terminated, Reason::SessionDeleted),

        (
            Pending | Starting | Active | Idle,
            Event::SlotGranted
            | Event::InstanceUsable
            | Event::InputSeen
            | Event::NoInput
            | Event::ActivityUnknown
            | Event::NoSlot
            | Event::QueueTimeout
            | Event::StartTimeout
            | Event::InstanceRefused
            | Event::InstanceLost
            | Event::IdleTimeout
            | Event::MaxDuration
            | Event::NodeDrained,
        ) => Next::Stay,
    }
}

/// Every phase, in the order of a session's life.
pub const PHASES: [Phase; 7] = [
    Phase::Pending,
    Phase::Starting,
    Phase::Active,
    Phase::Idle,
    Phase::Disconnected,
    Phase::Terminated,
    Phase::Failed,
];

/// Every event with the words that docs/states.md has for it. An end request stands for all of its kind.
pub const EVENTS: [(Event, &str); 18] = [
    (Event::SlotGranted, "a slot is free and it is this session's turn"),
    (Event::InstanceUsable, "the instance can be used"),
    (Event::InputSeen, "input within `idle.after`"),
    (Event::NoInput, "no input for `idle.after`"),
    (Event::ActivityUnknown, "`activity.source: gateway`, and nobody can say whether there is input"),
    (Event::NoSlot, "no slot is free and `whenFull` is `Fail`"),
    (Event::QueueTimeout, "waited for `queueTimeout`"),
    (Event::StartTimeout, "not usable within `startTimeout`"),
    (Event::InstanceRefused, "the API server refuses what the template makes"),
    (Event::InstanceLost, "the instance is deleted, evicted or has stopped for good"),
    (Event::IdleTimeout, "no input for `idle.disconnectAfter`"),
    (Event::MaxDuration, "usable for `maxDuration`"),
    (Event::DisconnectDesired, "`desiredState: Disconnected`"),
    (Event::TerminationDesired, "`desiredState: Terminated`"),
    (Event::EndRequested(EndAs::Terminated, Reason::WorkspaceStopped), "`status.endRequest`, here a workspace stop"),
    (Event::WorkspaceDeleted, "the Workspace is gone and the notice is over"),
    (Event::NodeDrained, "the node is being drained, the Workspace says `drain: End`, and the notice is over"),
    (Event::SessionDeleted, "the Session is deleted"),
];

/// The matrix as a table in Markdown: a row an event, a column a phase.
pub fn table() -> String {
    let mut text = String::from("| Event |");
    for phase in PHASES {
        text.push_str(&format!(" {} |", phase.as_str()));
    }
    text.push_str("\n|---|---|---|---|---|---|---|---|\n");
    for (event, words) in EVENTS {
        text.push_str(&format!("| {words} |"));
        for phase in PHASES {
            let cell = match next(phase, event) {
                Next::Stay => String::new(),
                Next::Go(phase) => format!("{} ", phase.as_str()),
                Next::End(phase, reason) => format!("**{}** {} ", phase.as_str(), reason.as_str()),
            };
            text.push_str(&format!(" {cell}|"));
        }
        text.push('\n');
    }
    text
}

/// Whether a session in this phase has ended.
pub fn is_ended(phase: Phase) -> bool {
    match phase {
        Phase::Pending | Phase::Starting | Phase::Active | Phase::Idle => false,
        Phase::Disconnected | Phase::Terminated | Phase::Failed => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_an_ended_phase() {
        for phase in PHASES.into_iter().filter(|phase| is_ended(*phase)) {
            for (event, _) in EVENTS {
                assert_eq!(next(phase, event), Next::Stay, "{phase:?} {event:?}");
            }
        }
    }

    #[test]
    fn every_end_is_in_an_ended_phase_and_nothing_else_is() {
        for phase in PHASES {
            for (event, _) in EVENTS {
                match next(phase, event) {
                    Next::Stay => {}
                    Next::Go(phase) => assert!(!is_ended(phase)),
                    Next::End(phase, _) => assert!(is_ended(phase)),
                }
            }
        }
    }
}
