//! The behaviour suite: what Berth does with Workspaces, Sessions and SessionPolicies on a real API server, in
//! real pods, next to a running operator. It looks at the world alone, at resources, pods and events; never at
//! the operator's requests. Each test has a namespace of its own, and says in its name what must be true.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod admission;
mod api;
mod cli;
mod columns;
mod contract;
mod drift;
mod end;
mod endpoints;
mod harness;
mod helm;
mod history;
mod instances;
mod kstatus;
mod leadership;
mod life;
mod limits;
mod managers;
mod namespaces;
mod network;
mod observed;
mod policies;
mod queue;
mod refusals;
mod start;
mod volumes;
mod warm;
mod workspaces;
