//! Berth: on-demand workspaces and the supervised sessions that people hold on them, as a Kubernetes operator.
//!
//! The modules in the order in which data walks through them: [`api`] is what stands in the cluster, [`plan`]
//! decides, [`cluster`] reads and writes, [`controller`] is the loop, [`operator`] puts it together, [`app`] is the process
//! around it.

pub mod admin;
#[allow(clippy::duplicated_attributes, reason = "columns of a CRD repeat their types and priorities")]
pub mod api;
pub mod app;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod controller;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod gateway;
mod hex;
mod http_client;
pub mod install;
pub mod let_go;
pub mod metrics;
pub mod operator;
pub mod plan;
pub mod planted;
pub mod reference;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod traces;
