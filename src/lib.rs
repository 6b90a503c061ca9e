//! Berth: on-demand workspaces and the supervised sessions that people hold on them, as a Kubernetes operator.
//!
//! The modules in the order in which data walks through them: [`api`] is what stands in the cluster.

pub mod api;
pub mod plan;
