//! What a plan comes to on the wire: decides about each request, each answer and each event of a watch. Owns the state of
//! one plan; what is decided is done by `proxy`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_simulation::apiserver::call::{Call, Verb};
use berth_simulation::apiserver::refusal::Refusal;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::plan::{Action, Ask, Plan, Trigger, counts};

/// The operator that faults befall. In a plan with two it leads first.
pub const FIRST: &str = "operator-a";
/// The other one.
pub const SECOND: &str = "operator-b";

/// How long events are held back or lost.
const HOLD: Duration = Duration::from_secs(6);
/// How late an operator that was started on an older list learns what has happened since.
const LAG: Duration = Duration::from_secs(2);
/// How long after an older list was recorded the operator is restarted, where no write does it before.
pub const UNTIL_RESTART: Duration = Duration::from_secs(3);
/// A write that is late is done when who sent it has given it up, and tried again.
pub const LATE: Duration = Duration::from_secs(7);
/// A burst lasts no longer, however slowly it is tried again: what then goes on is the caller's patience alone.
const BURST_LASTS: Duration = Duration::from_secs(15);
/// How long a follower leads before a leader with a write in flight goes on, where it writes nothing itself.
const FOLLOWED: Duration = Duration::from_secs(4);

/// What befalls a request before it reaches the API server.
#[derive(Debug)]
pub enum Before {
    /// It is done.
    Pass,
    /// It is not done, and answered by this.
    Refuse(Refusal),
    /// It is not done: who sent it is killed.
    Kill,
    /// It is done twice.
    Twice,
    /// It is done late.
    Late,
    /// It is answered by a list of the past.
    Serve(Bytes),
    /// The watch tells that its past is compacted.
    Compacted,
}

/// What befalls an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum After {
    /// It arrives.
    Deliver,
    /// Who sent the request is killed.
    Kill,
    /// The connection breaks.
    Reset,
    /// It was 504.
    TimedOut,
    /// It arrives; the lists of these paths are kept for later.
    Record(Vec<(String, String)>),
    /// Who sent the request is stopped. The answer arrives once it goes on, or never.
    Freeze {
        /// Whether it arrives.
        arrives: bool,
    },
    /// It arrives, and the operator that was stopped goes on.
    Continue,
    /// It arrives; the lease is deleted.
    DeleteLease,
}

/// What befalls an event of a watch.
#[derive(Debug, PartialEq, Eq)]
pub enum Passage {
    /// It arrives.
    Deliver,
    /// It is lost.
    Lost,
    /// It is lost, and the watch ends.
    End,
}

/// The course of one plan.
pub struct Fate {
    plan: Plan,
    state: Mutex<State>,
    struck: watch::Sender<Option<Instant>>,
}

#[derive(Default)]
struct State {
    calm: bool,
    /// In a plan with two operators: both are there.
    armed: bool,
    /// How many writes each operator has sent.
    writes: BTreeMap<String, u32>,
    /// Of what is refused.
    refused: u32,
    /// Of each kind, the path of its list.
    lists: BTreeMap<String, String>,
    /// Of each kind, a list of the past.
    past: BTreeMap<String, Bytes>,
    /// At which write that was taken.
    recorded: Option<u32>,
    restarted: bool,
    /// Until when the events of a kind are late.
    late: BTreeMap<String, Instant>,
    /// Kinds whose watch was cut.
    cut: BTreeSet<String>,
    /// Kinds whose next watch is told that its past is compacted.
    compacted: BTreeSet<String>,
    frozen: bool,
    /// Since when the follower leads.
    followed: Option<Instant>,
    thawed: bool,
}

impl Fate {
    /// The course of this plan.
    pub fn new(plan: Plan) -> Self {
        Self { plan, state: Mutex::default(), struck: watch::channel(None).0 }
    }

    /// Whether the plan's moment has come.
    pub fn has_struck(&self) -> bool {
        self.struck.borrow().is_some()
    }

    /// It has come.
    pub fn strike(&self) {
        self.struck.send_if_modified(|struck| struck.is_none() && struck.replace(Instant::now()).is_none());
    }

    /// From now on the leader is stopped at its next renewal, where the plan says so.
    pub fn arm(&self) {
        self.lock().armed = true;
    }

    /// No more faults.
    pub fn calm(&self) {
        self.lock().calm = true;
    }

    /// How many writes there were.
    pub fn writes(&self) -> u32 {
        self.lock().writes.values().sum()
    }

    /// Decides about a request of this operator. Comes with the number of the write, for the answer.
    pub fn before(&self, operator: &str, call: &Call, path: &str) -> (Option<u32>, Before) {
        let mut state = self.lock();
        let number = counts(call).then(|| {
            let count = state.writes.entry(operator.to_owned()).or_default();
            *count += 1;
            *count
        });
        let plural = call.kind.plural.as_str();
        if call.verb == Verb::List {
            state.lists.insert(plural.to_owned(), path.to_owned());
            if state.restarted
                && let Some(list) = state.past.remove(plural)
            {
                state.late.insert(plural.to_owned(), Instant::now() + LAG);
                return (number, Before::Serve(list));
            }
        }
        if call.verb == Verb::Watch && state.compacted.remove(plural) {
            return (number, Before::Compacted);
        }
        if state.calm {
            return (number, Before::Pass);
        }
        if let (Action::Refuse(fail, times), Trigger::Asked(ask)) = (self.plan.action, &self.plan.trigger)
            && *ask == Ask::of(call)
            && state.refused < times
            && self.since_strike().is_none_or(|since| since < BURST_LASTS)
        {
            state.refused += 1;
            drop(state);
            self.strike();
            return (number, Before::Refuse(fail.refusal(call)));
        }
        let before = match self.plan.action {
            Action::KillBefore => Before::Kill,
            Action::Twice => Before::Twice,
            Action::Late => Before::Late,
            _ => return (number, Before::Pass),
        };
        if operator == FIRST && self.is_at(number) {
            drop(state);
            self.strike();
            return (number, before);
        }
        (number, Before::Pass)
    }

    /// Decides about the answer to a request that was done.
    pub fn after(&self, operator: &str, call: &Call, number: Option<u32>, done: bool) -> After {
        let mut state = self.lock();
        let renews = call.kind.plural == "leases" && !matches!(call.verb, Verb::Get);
        if operator == SECOND && renews && done && state.frozen {
            state.followed.get_or_insert_with(Instant::now);
        }
        if operator == SECOND && number.is_some() && state.frozen && self.plan.action == Action::InFlight {
            state.thawed = true;
        }
        if state.calm {
            return After::Deliver;
        }
        if self.plan.action == Action::Stopped {
            if operator == FIRST && renews && call.verb == Verb::Update && state.armed && !state.frozen {
                state.frozen = true;
                return After::Freeze { arrives: false };
            }
            let follows = operator == SECOND && state.frozen && !state.thawed;
            if follows && self.is_at(number) {
                state.thawed = true;
                drop(state);
                self.strike();
                return After::Continue;
            }
            return After::Deliver;
        }
        if operator != FIRST {
            return After::Deliver;
        }
        // Some time after an older list was taken the operator is started on it. A short past may lack a pod that was just
        // made, a longer one a pod that a status names.
        let past = |at: u32| if at.is_multiple_of(2) { 2 } else { 4 };
        let (recorded, due) = (state.recorded, |at: u32| number.is_some_and(|number| number >= at + past(at)));
        if recorded.is_some_and(due) && !state.restarted {
            state.restarted = true;
            return After::Kill;
        }
        if !self.is_at(number) {
            return After::Deliver;
        }
        let after = match self.plan.action {
            Action::KillAfter => After::Kill,
            Action::Reset => After::Reset,
            Action::TimedOut => After::TimedOut,
            Action::LeaseDeleted => After::DeleteLease,
            Action::InFlight => {
                state.frozen = true;
                After::Freeze { arrives: true }
            }
            Action::Travel(watched) => {
                state.recorded = number;
                let lists = state.lists.iter().filter(|(plural, _)| watched.covers(plural));
                After::Record(lists.map(|(plural, path)| (plural.clone(), path.clone())).collect())
            }
            _ => After::Deliver,
        };
        drop(state);
        self.strike();
        after
    }

    /// Keeps a list for later.
    pub fn keep(&self, plural: &str, list: Bytes) {
        self.lock().past.insert(plural.to_owned(), list);
    }

    /// Whether the operator is to be restarted now, on the list that was kept: true once.
    pub fn restarts(&self) -> bool {
        let mut state = self.lock();
        !state.calm && state.recorded.is_some() && !std::mem::replace(&mut state.restarted, true)
    }

    /// Waits until the operator that was stopped with a write in flight goes on.
    pub async fn thaw(&self) {
        loop {
            sleep(Duration::from_millis(50)).await;
            let state = self.lock();
            let followed = state.followed.is_some_and(|since| since.elapsed() > FOLLOWED);
            if state.thawed || state.calm || followed {
                return;
            }
        }
    }

    /// Decides about an event of a kind's watch, in its time.
    pub async fn pass(&self, plural: &str) -> Passage {
        let late = self.lock().late.get(plural).copied();
        if let Some(late) = late {
            sleep_until(late).await;
        }
        let struck = *self.struck.borrow();
        match (self.plan.action, struck) {
            (Action::Hold(watched), Some(since)) if watched.covers(plural) => {
                sleep_until(since + HOLD).await;
                Passage::Deliver
            }
            (Action::Unobserved(watched), Some(since)) if watched.covers(plural) => {
                if since.elapsed() < HOLD {
                    return Passage::Lost;
                }
                match self.compacts_once(plural) {
                    true => Passage::End,
                    false => Passage::Deliver,
                }
            }
            _ => Passage::Deliver,
        }
    }

    /// Waits until a kind's watch is cut.
    pub async fn cut(&self, plural: &str) {
        let mut struck = self.struck.subscribe();
        match self.plan.action {
            Action::Unobserved(watched) if watched.covers(plural) && !self.lock().cut.contains(plural) => {
                let since = struck.wait_for(Option::is_some).await.map(|since| *since).ok().flatten();
                if let Some(since) = since {
                    sleep_until(since + HOLD).await;
                    if self.compacts_once(plural) {
                        return;
                    }
                }
                std::future::pending().await
            }
            _ => std::future::pending().await,
        }
    }

    /// The next watch of this kind is told that its past is compacted; true once.
    fn compacts_once(&self, plural: &str) -> bool {
        let mut state = self.lock();
        let first = state.cut.insert(plural.to_owned());
        if first {
            state.compacted.insert(plural.to_owned());
        }
        first
    }

    fn is_at(&self, number: Option<u32>) -> bool {
        number.is_some_and(|number| self.plan.trigger == Trigger::Write(number))
    }

    fn since_strike(&self) -> Option<Duration> {
        self.struck.borrow().map(|struck| struck.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use berth_simulation::apiserver::kinds::Kinds;
    use http::Request;

    use super::*;

    fn fate(plan: &str) -> Fate {
        Fate::new(plan.parse().unwrap())
    }

    fn call(method: &str, path: &str) -> Call {
        let request = Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
        Call::read(&Arc::new(Kinds::default()), FIRST, Duration::ZERO, &request).unwrap()
    }

    fn write() -> Call {
        call("PATCH", "/apis/berth.dev/v1alpha1/namespaces/a/sessions/mine/status")
    }

    fn renewal() -> Call {
        call("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/berth-operator")
    }

    #[test]
    fn the_write_of_the_plans_number_is_struck_and_no_other() {
        let fate = fate("idle/kill-before/2");
        let before = |call: &Call| fate.before(FIRST, call, "").1;
        assert!(matches!(before(&renewal()), Before::Pass), "a lease is not counted");
        assert!(matches!(before(&write()), Before::Pass));
        assert!(!fate.has_struck());
        assert!(matches!(before(&write()), Before::Kill));
        assert!(fate.has_struck());
        assert!(matches!(before(&write()), Before::Pass));
        assert_eq!(fate.writes(), 3);
    }

    #[test]
    fn a_burst_refuses_one_kind_of_request_so_often_and_nothing_in_the_calm() {
        let fate = fate("idle/internal-x10/patch:sessions.status");
        let is_refused = |call: &Call| matches!(fate.before(FIRST, call, "").1, Before::Refuse(_));
        assert!(!is_refused(&call("DELETE", "/api/v1/namespaces/a/pods/b")));
        assert_eq!((0..9).filter(|_| is_refused(&write())).count(), 9);
        fate.calm();
        assert!(!is_refused(&write()));
    }

    #[test]
    fn an_older_list_comes_once_and_after_a_restart() {
        let fate = fate("idle/travel-pods/1");
        let list = call("GET", "/api/v1/namespaces/a/pods");
        fate.before(FIRST, &list, "/list");
        let (number, _) = fate.before(FIRST, &write(), "");
        let lists = vec![("pods".to_owned(), "/list".to_owned())];
        assert_eq!(fate.after(FIRST, &write(), number, true), After::Record(lists));
        fate.keep("pods", Bytes::from_static(b"past"));
        assert!(matches!(fate.before(FIRST, &list, "/list").1, Before::Pass), "not before");
        assert!(fate.restarts() && !fate.restarts());
        assert!(matches!(fate.before(FIRST, &list, "/list").1, Before::Serve(_)));
        assert!(matches!(fate.before(FIRST, &list, "/list").1, Before::Pass));
    }

    #[test]
    fn a_leader_is_stopped_at_its_renewal_and_goes_on_at_a_write_of_its_follower() {
        let fate = fate("idle/stopped/1");
        let after = |who: &str, call: &Call| {
            let (number, _) = fate.before(who, call, "");
            fate.after(who, call, number, true)
        };
        assert_eq!(after(FIRST, &renewal()), After::Deliver, "not before both are there");
        fate.arm();
        assert_eq!(after(FIRST, &renewal()), After::Freeze { arrives: false });
        assert_eq!(after(SECOND, &renewal()), After::Deliver);
        assert_eq!(after(SECOND, &write()), After::Continue);
        assert_eq!(after(SECOND, &write()), After::Deliver);
    }
}
