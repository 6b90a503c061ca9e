//! The command line of Berth.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use berth::audit::{self, Audit};
use berth::install::{self, admission::Guarded};
use berth::let_go::LetGo;
use berth::settings::gateway::GatewayFlags;
use berth::settings::{Flags, LogFormat};
use berth::{app, cli, let_go, plan, reference, telemetry};
use clap::{Parser, Subcommand};

/// Lists of thousands of objects come and go beside what is kept of them: the C library's allocator keeps the holes that they leave
/// (ADR 0022).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// On-demand workspaces and supervised sessions on Kubernetes.
#[derive(Parser)]
#[command(
    version,
    about,
    arg_required_else_help = true,
    after_help = "Examples:
  berth operator --log-format text         run against the cluster of KUBECONFIG
  berth gateway --store sqlite:/tmp/b.db   serve the REST API of that cluster
  berth manifests crds | kubectl apply --server-side -f -
  berth kubectl list                       the plugin of kubectl, without a link called kubectl-berth"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconcile Workspaces and Sessions until stopped.
    Operator(Flags),
    /// Serve the REST API until stopped.
    Gateway(GatewayFlags),
    /// Look into the audit: verify it, or export it.
    #[command(subcommand)]
    Audit(Audit),
    /// Remove Berth's finalizers, once it is uninstalled: nothing then waits for an operator that is gone.
    LetGo(LetGo),
    /// Print what Berth brings to the cluster; the chart in charts/berth installs it with the operator.
    #[command(subcommand)]
    Manifests(Manifests),
    /// Print the parts of the documentation that are made from the code.
    #[command(subcommand, hide = true)]
    Docs(Docs),
}

#[derive(Subcommand)]
enum Manifests {
    /// The custom resource definitions; with --dir, a file each.
    Crds {
        /// Write the files here instead of printing.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// The admission policies: who may launch what and for whom, who may end whose, who writes a status.
    Admission {
        /// What their names begin with; the operator's configuration says the same under admission.policies.
        #[arg(long, default_value = "berth")]
        prefix: String,
    },
}

#[derive(Subcommand)]
enum Docs {
    /// The matrix of phases and events.
    States,
    /// Every field of our kinds.
    Reference,
}

fn main() -> ExitCode {
    if let Some(code) = cli::answer(std::env::args_os()) {
        return code;
    }
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            // Before the logger is up, and for a person at a terminal, the words alone.
            let _ = writeln!(std::io::stderr(), "berth: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Command::Audit(told) = cli.command {
        return tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(audit::run(told));
    }
    perform(cli.command).map(|()| ExitCode::SUCCESS)
}

fn perform(command: Command) -> anyhow::Result<()> {
    match command {
        // It has an exit code of its own.
        Command::Audit(_) => Ok(()),
        Command::Operator(flags) => {
            let settings = flags.settle()?;
            telemetry::start(settings.role.log_format, &settings.role.log).context("cannot start logging")?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(app::operator(settings))
        }
        Command::Gateway(flags) => {
            let settings = flags.settle()?;
            telemetry::start(settings.role.log_format, &settings.role.log).context("cannot start logging")?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(app::gateway(settings))
        }
        Command::LetGo(told) => {
            telemetry::start(LogFormat::Json, "info").context("cannot start logging")?;
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(let_go::run(told))
        }
        Command::Manifests(Manifests::Crds { dir: None }) => {
            install::crds().iter().try_for_each(|(_, crd)| print(&install::yaml(crd)?))
        }
        Command::Manifests(Manifests::Crds { dir: Some(dir) }) => {
            for (name, crd) in install::crds() {
                let path = dir.join(name);
                std::fs::write(&path, install::yaml(&crd)?)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            Ok(())
        }
        Command::Manifests(Manifests::Admission { prefix }) => {
            install::admission::policies(&prefix)?.iter().try_for_each(|Guarded { policy, binding }| {
                print(&install::yaml(policy)?)?;
                print(&install::yaml(binding)?)
            })
        }
        Command::Docs(Docs::States) => print(&plan::phase::table()),
        Command::Docs(Docs::Reference) => print(&reference::page()),
    }
}

/// Prints to standard output. A reader that has gone, such as `head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
