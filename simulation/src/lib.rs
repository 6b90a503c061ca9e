//! A Kubernetes API server and what surrounds it, in one process, on a seeded and paused clock: what Berth's operator
//! is run against by the thousand, with faults. Owns the cluster's side; the operator's side, users and the
//! properties that must hold are the tests'.
//!
//! # A run
//!
//! One seed is one run, on a current-thread tokio runtime with paused time, in a thread of its own:
//!
//! ```no_run
//! use berth_simulation::{ApiServer, Dice, SimClock};
//!
//! # async fn run() -> Result<(), kube::Error> {
//! let dice = Dice::new(42);
//! let server = ApiServer::new(SimClock::new(), &dice);
//! let client = server.client("operator-a"); // a `kube::Client`, no sockets
//! server.namespace("demo");
//! // actors, the operator, users; then:
//! println!("{}", server.log().digest());
//! # Ok(())
//! # }
//! ```
//!
//! - [`ApiServer`] is cheap to clone. Every request of every client goes through [`ApiServer::handle`]; `who` is the
//!   name that the client was made with, and nothing checks it.
//! - [`Fate`] decides about each request, before and after the store is touched: let it wait, refuse it, do it and
//!   lose the answer, do it twice. Futures, so that a request can be held until something else has happened. A
//!   request goes on after its caller has given it up, as on a real network.
//! - [`Wires`] and [`Wire`] decide about each frame of each watch: delay, hold, drop, and end the stream: closed,
//!   broken, or with the 410 inside the stream that real API servers send.
//! - [`ApiServer::compact`] forgets the history before a revision: who watches from before gets that 410.
//! - [`SimClock`] is the wall clock of one actor: the simulated time plus a skew that can jump.
//! - [`Dice`] is the only randomness. [`Dice::fork`] gives each actor its own, so that one actor's throws do not
//!   change another's.
//! - [`host::enter`] makes the rest of a thread deterministic: hash maps, jitter, and whatever asks the system for random
//!   bytes or for the time of day.
//! - [`kubelet`], [`scheduler`], [`collector`] and [`storage`] are actors, each a future to be spawned. They see the store
//!   as it is, without a watch, so that their reading costs nothing and stands in no log; they write as clients, with a
//!   `who`, and so with a fate. What is to go wrong with a pod is told to the kubelet by a [`kubelet::Plan`].
//!
//! # What is as on a real API server, and what is not
//!
//! `tests/conformance.rs` compares answers and watches of random requests with those of a real API server. There are
//! no sockets, authorization, priority and fairness, managed fields, server-side apply, webhooks and protobuf. Built-in
//! kinds have the validation and the defaults that Berth meets, our own kinds those of their definitions, CEL included.

mod actor;
pub mod apiserver;
pub mod clock;
pub mod collector;
pub mod dice;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod host;
pub mod kubelet;
pub mod scheduler;
pub mod storage;
pub mod trial;

pub use apiserver::ApiServer;
pub use apiserver::call::{Call, Verb};
pub use apiserver::fate::{After, Before, Fate, Outcome};
pub use apiserver::refusal::Refusal;
pub use apiserver::wire::{Clean, End, Frame, Passage, Wire, Wires};
pub use clock::SimClock;
pub use dice::Dice;
