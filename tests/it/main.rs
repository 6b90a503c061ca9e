//! What can be tested without a cluster and across modules: the walls between them, and that generated files
//! are those that the code makes. Planners are tested beside their code.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test that cannot read its input has failed")]

mod collector;
mod generated;
mod postgres;
mod store;
mod traces;
mod walls;
