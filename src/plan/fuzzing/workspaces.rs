//! The body of the fuzz target about the planner of Workspaces.

use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use chrono::TimeDelta;

use super::worlds::{self, instant, start, word};
use crate::api::condition::{self, Type};
use crate::api::session::Phase;
use crate::api::time::Instant;
use crate::api::workspace::{ReclaimPolicy, WorkspacePhase};
use crate::api::{Reason, WorkspaceStatus};
use crate::plan::child::Child;
use crate::plan::contract::Credential;
use crate::plan::template;
use crate::plan::workspace::{LastEnd, Step, Trial, World, decide};

/// Whatever is known of a Workspace, it is decided on once and the same way, and what was decided comes to rest.
///
/// # Panics
/// When it does not.
pub fn workspaces(data: &[u8]) {
    // Bytes that are no world say nothing.
    let _ = life(&mut Unstructured::new(data));
}

fn life(bytes: &mut Unstructured<'_>) -> Result<()> {
    let mut now = start();
    let mut world = World {
        workspace: Arc::new(worlds::workspace(bytes)?),
        holding: bytes.int_in_range(0usize..=4)?,
        waiting: bytes.int_in_range(0usize..=2)?,
        last_end: None,
        policy: worlds::policy(bytes)?,
        trial: trial(bytes, now)?,
        hardening: Arc::default(),
        fence: worlds::child(bytes, now)?,
        budget: worlds::child(bytes, now)?,
        secret: bytes.ratio(1u8, 8u8)?.then(Credential::default),
        hash: None,
        pool: None,
    };
    if bytes.ratio(1u8, 8u8)? {
        // More than a status can say.
        world.holding = usize::try_from(u32::MAX).unwrap_or_default();
    }
    for _ in 0..8 {
        if rests(&mut world, now) {
            return Ok(());
        }
        if bytes.is_empty() {
            break;
        }
        match bytes.int_in_range(0u8..=8)? {
            0 => now += TimeDelta::milliseconds(bytes.int_in_range(-2_000i64..=100_000)?),
            1 => world.trial = trial(bytes, now)?,
            2 => world.policy = worlds::policy(bytes)?,
            3 => world.holding = bytes.int_in_range(0usize..=4)?,
            4 => {
                let (phase, reason) = *bytes.choose(&[
                    (Phase::Disconnected, Reason::UserDisconnected),
                    (Phase::Terminated, Reason::MaxDuration),
                    (Phase::Failed, Reason::InstanceLost),
                ])?;
                world.last_end = Some(LastEnd { at: instant(bytes, now)?, phase, reason });
            }
            5 => {
                let status = world.workspace.status.clone();
                let mut edited = worlds::workspace(bytes)?;
                edited.status = status;
                edited.metadata.generation = world.workspace.metadata.generation.map(|before| before + 1);
                world.workspace = Arc::new(edited);
            }
            6 => world.fence = worlds::child(bytes, now)?,
            7 => world.budget = worlds::child(bytes, now)?,
            _ => world.waiting = bytes.int_in_range(0usize..=2)?,
        }
    }
    Ok(())
}

fn trial(bytes: &mut Unstructured<'_>, now: Instant) -> Result<Trial> {
    let said = word(bytes, &["no such image", "非常に長い", ""])?.repeat(200);
    Ok(match bytes.int_in_range(0u8..=4)? {
        0 => Trial::NotMade,
        1 => Trial::Accepted,
        2 => Trial::Refused(said),
        3 => Trial::Forbidden(instant(bytes, now)?, said),
        _ => Trial::Undecided(instant(bytes, now)?, said),
    })
}

/// Looks until nothing is left to be done; whether the Workspace is gone then.
fn rests(world: &mut World, now: Instant) -> bool {
    for _ in 0..7 {
        let plan = decide(world, now);
        assert_eq!(plan, decide(world, now), "decided differently the second time");
        assert!(plan.wake.is_none_or(|wake| wake > now), "{:?} is no time to wake at {now}", plan.wake);
        let mut quiet = true;
        for step in plan.steps {
            match step {
                Step::EnsureNetworkPolicy(_) => {
                    assert!(matches!(world.fence, Child::Wanting { .. }), "{:?}", world.fence);
                    world.fence = Child::Stands;
                    quiet = false;
                }
                Step::EnsureBudget(_) => {
                    assert!(matches!(world.budget, Child::Wanting { .. }), "{:?}", world.budget);
                    world.budget = Child::Stands;
                    quiet = false;
                }
                Step::EnsureSecret(_) => {
                    assert!(world.holding > 0 && world.secret.is_some());
                    world.secret = None;
                    quiet = false;
                }
                Step::DeleteBudget { .. } => {
                    assert!(matches!(world.budget, Child::Unwanted { .. }), "{:?}", world.budget);
                    world.budget = Child::Unneeded;
                    quiet = false;
                }
                Step::Try(objects) => {
                    let spec = &world.workspace.spec;
                    assert!(
                        spec.template
                            .as_ref()
                            .is_some_and(|template| template::check(template, &world.hardening).is_ok())
                    );
                    assert!(!objects.is_empty());
                    world.trial = Trial::Accepted;
                    quiet = false;
                }
                Step::Publish(status) => {
                    holds_of(world, &status);
                    Arc::make_mut(&mut world.workspace).status = Some(*status);
                    quiet = false;
                }
                Step::Delete => {
                    assert_eq!(world.workspace.spec.reclaim_policy, ReclaimPolicy::Delete);
                    assert!(world.holding == 0 && world.waiting == 0 && world.last_end.is_some());
                    return true;
                }
            }
        }
        if quiet {
            return false;
        }
    }
    assert!(decide(world, now).steps.is_empty(), "it does not come to rest: {:?}", decide(world, now).steps);
    false
}

fn holds_of(world: &World, status: &WorkspaceStatus) {
    assert_ne!(Some(status), world.workspace.status.as_ref(), "a status that stands is written");
    let conditions = &status.conditions;
    assert!(conditions.is_sorted_by(|one, next| one.type_ < next.type_), "{conditions:?}");
    let slots = usize::try_from(world.workspace.spec.max_sessions).unwrap_or_default();
    let can_launch = status.phase == Some(WorkspacePhase::Available);
    assert!(!can_launch || world.holding < slots, "Available with {} of {slots} taken", world.holding);
    let stands = !matches!(world.fence, Child::Wanting { .. } | Child::Going | Child::Impossible(_));
    assert!(!can_launch || stands, "Available, and the wall is {:?}", world.fence);
    let unsound = world
        .workspace
        .spec
        .template
        .as_ref()
        .is_some_and(|template| template::check(template, &world.hardening).is_err());
    assert!(!unsound || status.phase == Some(WorkspacePhase::Unavailable), "{status:?}");
    let stalled = condition::is_true(conditions, Type::Stalled);
    assert_eq!(stalled, status.phase == Some(WorkspacePhase::Unavailable), "{status:?}");
}
