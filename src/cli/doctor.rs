//! `kubectl berth doctor`: whether all that Berth needs is there, each check with how to mend it. Owns the order of the
//! checks and their printing; `facts` asks the cluster, `judge` decides and asks nobody.

mod facts;
mod judge;
mod schema;

use std::time::{Duration, Instant};

use serde_json::json;

use self::judge::{Check, Verdict};
use super::exit::{Exit, Failure};
use super::output::{self, Format, Paint, print};
use super::target::{Target, TargetFlags};
use super::wait::patience;
use crate::clock::Clock;

/// Check the installation, your permissions, and what goes on, and say how to mend it
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  kubectl berth doctor                 the installation, and this namespace's workspaces and sessions
  kubectl berth doctor -A              those of all namespaces
  kubectl berth doctor --installation  the installation alone, as `helm test` does
  kubectl berth doctor -o json | jq '.checks[] | select(.verdict != \"ok\")'

It exits with 0 where no check failed, also with warnings, and with 1 where one did.")]
pub struct Doctor {
    /// Look at the workspaces and sessions of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Check the installation alone, and neither your permissions nor what goes on.
    #[arg(long, conflicts_with = "all_namespaces")]
    installation: bool,
    /// How long to look again while a check fails, as in 30s; what the last look found is printed.
    #[arg(long, value_name = "DURATION", value_parser = patience)]
    timeout: Option<Duration>,
    /// Where the operator is, for those who may not look for it.
    #[arg(long, value_name = "NAMESPACE", default_value = "berth-system")]
    operator_namespace: String,
    /// How to print.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    format: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Lines for people.
    Table,
    /// One document.
    Json,
    /// One document.
    Yaml,
}

/// How long the API server may take for its first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// How long to leave the cluster alone between two looks.
const PAUSE: Duration = Duration::from_secs(2);

impl Doctor {
    /// Checks.
    ///
    /// # Errors
    /// When no cluster is configured, or the result cannot be printed. What a check finds wrong is no error.
    pub async fn run(self, flags: &TargetFlags) -> Result<Exit, Failure> {
        let target = flags.connect().await?;
        let give_up = Instant::now() + self.timeout.unwrap_or_default();
        let (checks, worst) = loop {
            let checks = self.checks(&target).await;
            let worst = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
            if worst < Verdict::Failed || Instant::now() + PAUSE > give_up {
                break (checks, worst);
            }
            tokio::time::sleep(PAUSE).await;
        };
        let whole = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "verdict": worst.as_str(),
            "checks": checks.iter().map(Check::to_json).collect::<Vec<_>>(),
        });
        let format = match self.format {
            Form::Table => Format::Table,
            Form::Json => Format::Json,
            Form::Yaml => Format::Yaml,
        };
        print(&output::document(&whole, format)?.unwrap_or_else(|| lines(&checks, output::on_stdout())))?;
        Ok(if worst == Verdict::Failed { Exit::Failed } else { Exit::Done })
    }

    async fn checks(&self, target: &Target) -> Vec<Check> {
        let scope = target.scope(self.all_namespaces);
        let reached = match tokio::time::timeout(FIRST_ANSWER, facts::server(target)).await {
            Ok(reached) => reached,
            Err(_) => Err(Failure::new(Exit::Failed, "the API server does not answer")
                .next("is this the right context, and is the network there?")),
        };
        let server = judge::server(&reached);
        // Without it every other check would say the same.
        let Ok(reached) = reached else { return vec![server] };
        let mut checks = vec![server, judge::clock(reached.ahead)];
        checks.push(judge::definitions(facts::definitions(target).await));
        let operators = facts::operators(target, &self.operator_namespace).await;
        let leases = facts::leases(target, &operators, &self.operator_namespace).await;
        checks.push(judge::operators(operators));
        let now = Clock::system().now() - reached.ahead;
        checks.push(judge::leases(leases, now));
        if self.installation {
            return checks;
        }
        checks.push(judge::permissions(facts::permissions(target, &scope).await, &scope));
        checks.push(judge::storage(facts::storage_classes(target).await));
        checks.push(judge::workspaces(facts::workspaces(target, &scope).await, &scope, now));
        checks.push(judge::sessions(facts::sessions(target, &scope).await, &scope, now));
        checks
    }
}

/// A line for each check, with its mend below where it needs one.
fn lines(checks: &[Check], paint: Paint) -> String {
    let mut lines = Vec::new();
    for check in checks {
        let verdict = format!("{:<7}", check.verdict.as_str());
        let verdict = match check.verdict {
            Verdict::Ok => paint.green(&verdict),
            Verdict::Warning => paint.yellow(&verdict),
            Verdict::Failed => paint.red(&verdict),
        };
        lines.push(format!("{verdict}  {:<12}  {}", check.name, output::clean(&check.message)));
        lines.extend(check.mend.iter().map(|mend| format!("{:23}mend: {}", "", output::clean(mend))));
    }
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (warnings, failed) = (count(Verdict::Warning), count(Verdict::Failed));
    let ok = count(Verdict::Ok);
    lines.push(format!("{ok} of {} checks are ok, {warnings} warnings, {failed} failed", checks.len()));
    lines.join("\n")
}
