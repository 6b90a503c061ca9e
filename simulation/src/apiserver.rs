//! The API server. Owns the one way that every request goes, from the client to the store and back, and the faults
//! on it; what requests mean is in the modules below.

pub mod call;
pub mod fate;
pub mod kinds;
pub mod log;
pub mod refusal;
pub mod service;
pub mod store;
pub mod wire;

pub(crate) mod meta;
mod path;
mod read;
mod selector;
pub(crate) mod validate;
pub(crate) mod verbs;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{Dice, SimClock};
use call::{Call, Verb};
use fate::{After, Before, Fate, Outcome};
use kinds::Kinds;
use log::Log;
use refusal::Refusal;
use store::Store;
use wire::Wires;

/// An API server. Clones are the same one.
#[derive(Clone)]
pub struct ApiServer(Arc<Shared>);

struct Shared {
    clock: SimClock,
    state: Mutex<State>,
    /// The store has changed: watches look.
    changed: Notify,
}

/// What one lock guards. It is never held over an await.
pub(crate) struct State {
    pub(crate) kinds: Kinds,
    pub(crate) store: Store,
    pub(crate) dice: Dice,
    pub(crate) clock: SimClock,
    log: Log,
    requests: u64,
    fate: Arc<dyn Fate>,
    wires: Arc<dyn Wires>,
}

/// What a client gets.
pub enum Answer {
    /// One body, with its HTTP status.
    Whole(u16, Bytes),
    /// The frames of a watch.
    Stream(BoxStream<'static, Result<Bytes, Disconnected>>),
}

/// The connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnected;

impl std::fmt::Display for Disconnected {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("connection reset by the simulation")
    }
}

impl std::error::Error for Disconnected {}

impl ApiServer {
    /// An API server without an object but the namespaces `default` and `kube-system`, and without faults.
    pub fn new(clock: SimClock, dice: &Dice) -> Self {
        let state = State {
            kinds: Kinds::default(),
            store: Store::default(),
            dice: dice.fork("apiserver"),
            clock: clock.clone(),
            log: Log::default(),
            requests: 0,
            fate: Arc::new(fate::Kind),
            wires: Arc::new(wire::Clean),
        };
        let server = Self(Arc::new(Shared { clock, state: Mutex::new(state), changed: Notify::new() }));
        server.namespace("default");
        server.namespace("kube-system");
        server
    }

    /// A client that sends its requests as `who`. Within a tokio runtime.
    pub fn client(&self, who: &str) -> kube::Client {
        kube::Client::new(service::Front::new(self.clone(), who), "default")
    }

    /// Makes a namespace, if it is not there.
    pub fn namespace(&self, name: &str) {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        // One that is there stays.
        let _ = self.put("POST", "/api/v1/namespaces", &body);
    }

    /// Sends one request past all fates and out of the log: for what a simulation sets up.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn put(&self, method: &str, path: &str, body: &Value) -> Result<Value, Refusal> {
        let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
        let body = Bytes::from(body.to_string());
        let request = request.body(body).map_err(|error| Refusal::bad_request(error.to_string()))?;
        let mut state = self.lock();
        let call = path::read(&state.kinds, "setup", self.0.clock.elapsed(), &request)?;
        let before = state.store.revision();
        let answer = verbs::execute(&mut state, &call).map(|(_, answer)| answer);
        self.tell(before, &state);
        answer
    }

    /// From now on this decides about every request.
    pub fn set_fate(&self, fate: Arc<dyn Fate>) {
        self.lock().fate = fate;
    }

    /// From now on this gives new watches their wires.
    pub fn set_wires(&self, wires: Arc<dyn Wires>) {
        self.lock().wires = wires;
    }

    /// The wall clock by which objects are stamped.
    pub fn clock(&self) -> &SimClock {
        &self.0.clock
    }

    /// Forgets the history up to this revision: a watch or a continued list from before it is answered by 410.
    pub fn compact(&self, revision: u64) {
        self.lock().store.compact(revision);
        self.0.changed.notify_waiters();
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.lock().store.revision()
    }

    /// Waits until an object of one of these resources has changed since this revision.
    pub async fn changed_since(&self, revision: u64, concerns: impl Fn(&str) -> bool) {
        let mut seen = revision;
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.lock();
                if state.store.since(seen).iter().any(|change| concerns(&change.key.resource)) {
                    return;
                }
                seen = state.store.revision();
            }
            changed.await;
        }
    }

    /// All objects of a resource, such as `pods` or `sessions.berth.dev`, as they are stored, by namespace and name.
    pub fn objects(&self, resource: &str) -> Vec<Arc<Value>> {
        self.lock().store.all(resource).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// One object, as it is stored.
    pub fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.lock().store.get(&store::Key::new(resource, namespace, name)).cloned()
    }

    /// Every change since the last compaction, oldest first: what properties are checked on.
    pub fn history(&self) -> Vec<store::Change> {
        self.lock().store.history().cloned().collect()
    }

    /// Changes which kinds are served.
    pub fn kinds(&self, change: impl FnOnce(&mut Kinds)) {
        change(&mut self.lock().kinds);
    }

    /// What was asked and answered so far.
    pub fn log(&self) -> Log {
        self.lock().log.clone()
    }

    /// The one way of every request.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn handle(&self, who: &str, request: http::Request<Bytes>) -> Result<Answer, Disconnected> {
        let (read, fate) = {
            let mut state = self.lock();
            state.requests += 1;
            let number = state.requests;
            let read = path::read(&state.kinds, who, self.0.clock.elapsed(), &request);
            (read.map(|call| Call { number, ..call }), Arc::clone(&state.fate))
        };
        let call = match read {
            Ok(call) => call,
            Err(refusal) => return Ok(refused(&refusal)),
        };
        let befalls = fate.before(&call).await;
        match befalls {
            Before::Pass => {}
            Before::Twice => drop(self.touch(&call)),
            Before::Refuse(refusal) => {
                self.lock().log.befell(&call, refusal.code, &refusal.reason);
                return Ok(refused(&refusal));
            }
            Before::Disconnect => {
                self.lock().log.befell(&call, 0, "Disconnect");
                return Err(Disconnected);
            }
            Before::Hang => {
                self.lock().log.befell(&call, 0, "Hang");
                return std::future::pending().await;
            }
        }
        let (answer, outcome) = self.touch(&call);
        match fate.after(&call, &outcome).await {
            After::Deliver => Ok(answer),
            After::Replace(refusal) => Ok(refused(&refusal)),
            After::Disconnect => Err(Disconnected),
            After::Hang => std::future::pending().await,
        }
    }

    /// Does it, at this moment.
    fn touch(&self, call: &Call) -> (Answer, Outcome) {
        let mut state = self.lock();
        let before = state.store.revision();
        let done = match call.verb {
            Verb::Watch => watch::begin(&mut state, call).map(|plan| (200, Ok(plan))),
            _ => verbs::execute(&mut state, call).map(|(code, body)| (code, Err(body))),
        };
        let revision = state.store.revision();
        let outcome = |code, reason| Outcome { code, reason, revision, changed: revision > before };
        let (answer, outcome) = match done {
            Err(refusal) => (refused(&refusal), outcome(refusal.code, Some(refusal.reason.clone()))),
            Ok((code, Err(body))) => (Answer::Whole(code, Bytes::from(body.to_string())), outcome(code, None)),
            Ok((code, Ok(plan))) => {
                let wire = state.wires.open(call);
                (Answer::Stream(watch::stream(self.clone(), plan, wire)), outcome(code, None))
            }
        };
        state.log.answered(call, &outcome);
        self.tell(before, &state);
        (answer, outcome)
    }

    /// Wakes the watches if the store has changed.
    fn tell(&self, before: u64, state: &State) {
        if state.store.revision() > before {
            self.0.changed.notify_waiters();
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn changed(&self) -> &Notify {
        &self.0.changed
    }
}

fn refused(refusal: &Refusal) -> Answer {
    Answer::Whole(refusal.code, Bytes::from(refusal.status().to_string()))
}
