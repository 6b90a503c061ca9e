//! What befalls the operators' requests and watches in a trial. Owns which faults there are, how often a seed has them,
//! and that they end: liveness is checked in the calm after them.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::{After, Before, Call, Dice, End, Fate, Frame, Outcome, Passage, Refusal, Verb, Wire, Wires};

/// What the names of operators begin with: faults befall nobody else.
pub const OPERATOR: &str = "operator";

/// Of a thousand requests, watches or frames, how many each fault befalls. A seed has each kind of fault at one of a few
/// levels, none among them, so that rare ones are also seen alone.
#[derive(Clone, Debug)]
pub struct Levels {
    crash_before: u64,
    crash_after: u64,
    refused: u64,
    lost_request: u64,
    lost_answer: u64,
    twice: u64,
    slow_request: u64,
    slow_answer: u64,
    late_frame: u64,
    cut: u64,
    compacted: u64,
}

impl Levels {
    /// The levels of a seed.
    pub fn of(dice: &Dice) -> Self {
        let level = |most: u64| match dice.below(4) {
            0 | 1 => 0,
            2 => most.div_ceil(10),
            _ => most,
        };
        Self {
            crash_before: level(40),
            crash_after: level(40),
            refused: level(200),
            lost_request: level(100),
            lost_answer: level(100),
            twice: level(100),
            slow_request: level(100),
            slow_answer: level(100),
            late_frame: level(200),
            cut: level(400),
            compacted: level(60),
        }
    }

    /// No faults at all.
    pub fn none() -> Self {
        Self {
            crash_before: 0,
            crash_after: 0,
            refused: 0,
            lost_request: 0,
            lost_answer: 0,
            twice: 0,
            slow_request: 0,
            slow_answer: 0,
            late_frame: 0,
            cut: 0,
            compacted: 0,
        }
    }
}

/// The faults of one trial. Clones are the same.
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

struct Shared {
    levels: Levels,
    dice: Dice,
    state: Mutex<State>,
    crashed: Notify,
    compact: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    calm: bool,
    /// Processes that are no more: nothing that they send arrives.
    dead: BTreeSet<String>,
}

impl Faults {
    /// Faults by these levels; `compact` makes the API server forget its history.
    pub fn new(levels: Levels, dice: &Dice, compact: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            levels,
            dice: dice.fork("faults"),
            state: Mutex::default(),
            crashed: Notify::new(),
            compact: Box::new(compact),
        }))
    }

    /// No more faults from now on.
    pub fn calm(&self) {
        self.lock().calm = true;
    }

    /// Whether the faults are over.
    pub fn is_calm(&self) -> bool {
        self.lock().calm
    }

    /// This process is no more.
    pub fn kill(&self, who: &str) {
        self.lock().dead.insert(who.to_owned());
        self.0.crashed.notify_waiters();
    }

    /// Waits until this process is no more.
    pub async fn killed(&self, who: &str) {
        loop {
            let changed = self.0.crashed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_dead(who) {
                return;
            }
            changed.await;
        }
    }

    fn is_dead(&self, who: &str) -> bool {
        self.lock().dead.contains(who)
    }

    /// Whether one of `per_mille` befalls: never in the calm.
    fn befalls(&self, per_mille: u64) -> bool {
        per_mille > 0 && !self.is_calm() && self.0.dice.below(1000) < per_mille
    }

    /// The way between two machines: also where nothing is wrong, requests overtake each other and answers cross.
    async fn travel(&self) {
        sleep(self.0.dice.time(&(Duration::from_micros(50)..=Duration::from_millis(3)))).await;
    }

    /// Waits for a time in which most are short and a few outlast a lease.
    async fn delay(&self) {
        let range: RangeInclusive<Duration> = match self.0.dice.below(10) {
            0 => Duration::from_secs(4)..=Duration::from_secs(40),
            1..4 => Duration::from_millis(500)..=Duration::from_secs(6),
            _ => Duration::from_millis(5)..=Duration::from_millis(500),
        };
        let until = self.0.dice.time(&range);
        sleep(until).await;
    }

    fn refusal(&self, call: &Call) -> Refusal {
        let resource = call.kind.resource();
        let all = [
            Refusal::unavailable(),
            Refusal::throttled(),
            Refusal::internal("etcdserver: request timed out"),
            Refusal::timeout(),
            Refusal::forbidden(&resource, &call.name, "exceeded quota: pods"),
            Refusal::new(410, "Gone", "the provided continue parameter is too old"),
        ];
        let conflict = Refusal::conflict(&resource, &call.name, "the object has been modified");
        if call.is_write && self.0.dice.chance(25) {
            return conflict;
        }
        self.0.dice.pick(&all).cloned().unwrap_or(conflict)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_ours(call: &Call) -> bool {
    call.who.starts_with(OPERATOR)
}

impl Fate for Faults {
    fn before(&self, call: &Call) -> BoxFuture<'static, Before> {
        if !is_ours(call) {
            return Box::pin(async { Before::Pass });
        }
        let (faults, call) = (self.clone(), call.clone());
        Box::pin(async move {
            if faults.is_dead(&call.who) {
                return Before::Hang;
            }
            faults.travel().await;
            let levels = &faults.0.levels;
            if call.is_write && faults.befalls(levels.crash_before) {
                faults.kill(&call.who);
                return Before::Hang;
            }
            if faults.befalls(levels.slow_request) {
                faults.delay().await;
            }
            if faults.befalls(levels.refused) {
                return Before::Refuse(faults.refusal(&call));
            }
            if faults.befalls(levels.lost_request) {
                return if faults.0.dice.chance(50) { Before::Disconnect } else { Before::Hang };
            }
            if call.is_write && faults.befalls(levels.twice) {
                return Before::Twice;
            }
            Before::Pass
        })
    }

    fn after(&self, call: &Call, _outcome: &Outcome) -> BoxFuture<'static, After> {
        if !is_ours(call) {
            return Box::pin(async { After::Deliver });
        }
        let (faults, call) = (self.clone(), call.clone());
        Box::pin(async move {
            let levels = &faults.0.levels;
            if call.is_write && faults.befalls(levels.crash_after) {
                faults.kill(&call.who);
                return After::Hang;
            }
            if faults.befalls(levels.compacted) {
                (faults.0.compact)();
            }
            if faults.befalls(levels.slow_answer) {
                faults.delay().await;
            }
            if call.verb != Verb::Watch && faults.befalls(levels.lost_answer) {
                return match faults.0.dice.below(3) {
                    0 => After::Disconnect,
                    1 => After::Replace(Refusal::timeout()),
                    _ => After::Hang,
                };
            }
            faults.travel().await;
            // What a dead process is answered, it does not hear.
            if faults.is_dead(&call.who) { After::Hang } else { After::Deliver }
        })
    }
}

impl Wires for Faults {
    fn open(&self, watch: &Call) -> Arc<dyn Wire> {
        if !is_ours(watch) {
            return Arc::new(crate::Clean);
        }
        let lasts = self.befalls(self.0.levels.cut).then(|| {
            let range = Duration::from_millis(50)..=Duration::from_secs(60);
            let ends = [End::Close, End::Break, End::Expire];
            (self.0.dice.time(&range), self.0.dice.pick(&ends).copied().unwrap_or(End::Close))
        });
        Arc::new(Line { faults: self.clone(), lasts })
    }
}

/// The way of one watch's frames.
struct Line {
    faults: Faults,
    lasts: Option<(Duration, End)>,
}

impl Wire for Line {
    fn pass(&self, _frame: &Frame) -> BoxFuture<'static, Passage> {
        let faults = self.faults.clone();
        Box::pin(async move {
            faults.travel().await;
            if faults.befalls(faults.0.levels.late_frame) {
                faults.delay().await;
            }
            Passage::Deliver
        })
    }

    fn end(&self) -> BoxFuture<'static, End> {
        let lasts = self.lasts;
        Box::pin(async move {
            match lasts {
                Some((after, end)) => {
                    sleep(after).await;
                    end
                }
                None => futures::future::pending().await,
            }
        })
    }
}
