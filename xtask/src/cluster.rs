//! `cargo xtask cluster`: a Kubernetes cluster on this machine.
//!
//! Owns the subcommands and their options; the steps are in the modules below.

use anyhow::{Result, bail};
use std::process::ExitCode;

/// Options of `cargo xtask cluster`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the subcommand.
pub fn main(_args: Args) -> Result<ExitCode> {
    bail!("the cluster comes with the next commit")
}
