//! Which plans there are. Owns the matrix, which follows from what each workload asks for when nothing befalls it, and the
//! choice of a few by a seed.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{Action, Ask, BURST, Fail, Plan, Suite, Trigger, Watched, Workload};

/// What a workload asks for when nothing befalls it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// How many writes it takes.
    pub writes: u32,
    /// The kinds of requests.
    pub asks: BTreeSet<Ask>,
}

/// All plans over these workloads.
pub fn all(shapes: &BTreeMap<Workload, Shape>) -> Vec<Plan> {
    let mut plans = Vec::new();
    for (&workload, shape) in shapes {
        let mut add = |action, number| plans.push(Plan { workload, action, trigger: Trigger::Write(number) });
        for number in 1..=shape.writes {
            use Action::{InFlight, KillAfter, KillBefore, Late, LeaseDeleted, Reset, Stopped, TimedOut, Twice};
            for action in [KillBefore, KillAfter, Reset, TimedOut, Twice, Late] {
                add(action, number);
            }
            for action in [Stopped, InFlight, LeaseDeleted] {
                // The operator's replacement and another's following are one thing too many at once.
                if workload != Workload::Upgrade {
                    add(action, number);
                }
            }
        }
        if workload != Workload::Upgrade {
            add(Action::TwoLeaders, 0);
        }
        // Where the events of a kind come late or never, a few points tell: the first writes, the middle, the last. The
        // past that a restart is shown is another at each write.
        let points = BTreeSet::from([1, 3, shape.writes.div_ceil(2), shape.writes.saturating_sub(2).max(1)]);
        for watched in Watched::ALL {
            for &number in &points {
                add(Action::Hold(watched), number);
                add(Action::Unobserved(watched), number);
            }
            for number in 1..=shape.writes {
                if !matches!(watched, Watched::Workspaces | Watched::Policies | Watched::NetworkPolicies)
                    || points.contains(&number)
                {
                    add(Action::Travel(watched), number);
                }
            }
        }
    }
    plans.extend(refusals(shapes));
    plans
}

/// Each kind of request is refused in each way, in one of the workloads that ask it: in turn, so that all have some.
fn refusals(shapes: &BTreeMap<Workload, Shape>) -> Vec<Plan> {
    let asks: BTreeSet<&Ask> = shapes.values().flat_map(|shape| &shape.asks).collect();
    let mut plans = Vec::new();
    for (row, ask) in asks.into_iter().enumerate() {
        let asking: Vec<Workload> =
            shapes.iter().filter(|(_, shape)| shape.asks.contains(ask)).map(|(workload, _)| *workload).collect();
        let fails = Fail::ALL.into_iter().filter(|fail| *fail != Fail::Invalid || !is_judged(ask));
        let actions = fails.flat_map(|fail| [Action::Refuse(fail, 1), Action::Refuse(fail, BURST)]);
        for (column, action) in actions.enumerate() {
            let workload = asking.get((row + column) % asking.len().max(1)).copied();
            plans.extend(workload.map(|workload| Plan { workload, action, trigger: Trigger::Asked(ask.clone()) }));
        }
    }
    plans
}

/// Of what is made for a user, 422 is no fault: it says that the template is wrong, and is believed.
fn is_judged(ask: &Ask) -> bool {
    ask.verb == "create"
        && ["pods", "pods.dry", "persistentvolumeclaims", "persistentvolumeclaims.dry"].contains(&ask.about.as_str())
}

/// Of a hundred plans, how many are of each suite.
const SHARES: [(Suite, usize); 6] = [
    (Suite::Intermediate, 36),
    (Suite::Stale, 18),
    (Suite::Unobserved, 8),
    (Suite::Errors, 17),
    (Suite::Unknown, 14),
    (Suite::Leadership, 7),
];

/// `count` of the plans, by this seed: of each suite its share. Without a bound all of them, in an order in which the first
/// are of all sorts.
pub fn choose(plans: &[Plan], count: usize, seed: u64) -> Vec<Plan> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut chosen = Vec::new();
    for (suite, share) in SHARES {
        let mut of_suite: Vec<&Plan> = plans.iter().filter(|plan| plan.action.suite() == suite).collect();
        random.shuffle(&mut of_suite);
        chosen.extend(of_suite.into_iter().take(count.saturating_mul(share).div_ceil(100)).cloned());
    }
    random.shuffle(&mut chosen);
    chosen.truncate(count);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> BTreeMap<Workload, Shape> {
        let ask = |verb: &str, about: &str| Ask { verb: verb.to_owned(), about: about.to_owned() };
        let asks = BTreeSet::from([ask("create", "pods"), ask("patch", "sessions.status"), ask("watch", "pods")]);
        Workload::ALL.into_iter().map(|workload| (workload, Shape { writes: 9, asks: asks.clone() })).collect()
    }

    #[test]
    fn every_write_is_killed_before_and_after_in_every_workload() {
        let plans = all(&shapes());
        let names: BTreeSet<String> = plans.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), plans.len(), "each plan is there once");
        for workload in Workload::ALL {
            for number in 1..=9 {
                for action in [Action::KillBefore, Action::KillAfter] {
                    assert!(plans.contains(&Plan { workload, action, trigger: Trigger::Write(number) }));
                }
            }
        }
    }

    #[test]
    fn every_kind_of_request_is_refused_in_every_way_but_by_a_judgement_of_the_template() {
        let plans = all(&shapes());
        let refused = |about: &str| {
            let about = |plan: &&Plan| matches!(&plan.trigger, Trigger::Asked(ask) if ask.about == about);
            plans.iter().filter(about).map(|plan| plan.action).collect::<BTreeSet<_>>().len()
        };
        assert_eq!(refused("sessions.status"), 20);
        assert_eq!(refused("pods"), 20, "of the watch");
        let made: Vec<_> = plans.iter().filter(|plan| plan.to_string().ends_with("create:pods")).collect();
        assert_eq!(made.len(), 18);
    }

    #[test]
    fn a_seed_chooses_the_same_plans_and_some_of_each_suite() {
        let plans = all(&shapes());
        let chosen = choose(&plans, 60, 1);
        assert_eq!(chosen.len(), 60);
        assert_eq!(chosen, choose(&plans, 60, 1));
        assert_ne!(chosen, choose(&plans, 60, 2));
        let suites: BTreeSet<Suite> = chosen.iter().map(|plan| plan.action.suite()).collect();
        assert_eq!(suites.len(), Suite::ALL.len());
    }
}
