//! The suite that breaks what the others stand on: the node, its kubelet, the operator's process. It runs after them,
//! one test at a time, and each test leaves the cluster as it found it, also when it fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../cluster"]
mod shared {
    #[allow(dead_code, reason = "made for the behaviour suite, which uses all of it")]
    pub mod harness;
}

#[path = "../it/collector.rs"]
mod collector;
mod drain;
mod gateway;
mod guard;
mod node;
mod operators;
mod outage;
#[path = "../it/postgres.rs"]
#[allow(dead_code, reason = "made for the suite of the store, which uses all of it")]
mod postgres;
mod release;
mod restart;
mod rights;
mod scoped;
mod traces;
mod upgrade;
mod versions;

use shared::harness;
