//! `cargo xtask demo`: from nothing to sessions in real pods, with a word before each step and a check after it.
//!
//! Owns the options, the way to a running Berth with the demo's organization, and what is said at the end. The story
//! is `acts`; `stage` is what they stand on, `feed` the sessions as they change, `reach` and `rfb` what a user would
//! see of an instance, and `say` the printing.

mod acts;
mod feed;
pub mod reach;
mod rfb;
mod say;
mod stage;

use crate::cache::{Cache, Lock};
use crate::cluster::{self, Layout, UpArgs};
use crate::compile::root;
use crate::images::{self, Built, Image};
use crate::install::{self, Prepared};
use crate::run::{step, wait_until};
use anyhow::{Context, Result};
use feed::Feed;
use say::Say;
use stage::{INSTANCES, NAMESPACE, Stage};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask demo               from nothing to launched, supervised and ended sessions
  cargo xtask demo --check       each step checked more closely, as with CI=true
  eval \"$(cargo xtask cluster env)\" && kubectl get sessions -n demo      afterwards
  cargo xtask cluster down       everything gone but the caches

The first run builds Kubernetes, the images and Berth, which takes a while and needs root and Debian; later ones take
about two minutes. The namespace demo is the demo's own: sessions that are there when it begins are removed. It may be
stopped at any point and started again; sessions of a stopped run end by their policies. Afterwards the cluster, Berth
and the Workspaces of examples/ stay up. Exits with 0 when all is as it was said, else with 1.")]
pub struct Args {
    /// Look for the evidence too: events, owners, finalizers, who leads
    #[arg(long)]
    check: bool,
}

/// Runs the subcommand.
pub fn main(args: &Args) -> Result<ExitCode> {
    run(&Cache::open()?, args.check || ci())?;
    Ok(ExitCode::SUCCESS)
}

/// Whether continuous integration runs this, by the variable that all of them set.
fn ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| !matches!(ci.as_str(), "" | "0" | "false"))
}

/// Plays the demo; with `check`, looks for the evidence too. Takes the machine-wide lock, so that nobody takes the
/// cluster away meanwhile: the caller must not hold it.
pub fn run(cache: &Cache, check: bool) -> Result<()> {
    let (say, begun) = (Say::new(), Instant::now());
    say.heading("Berth: from nothing to the main job");
    say.line("A Kubernetes cluster on this machine, Berth in it, and sessions on real workspaces.");
    // First of all, since it says soonest what is missing on this machine.
    cluster::up(cache, &cache.lock("demo")?, &UpArgs::default())?;
    let operator = install::prepare(cache)?;
    let workspaces = [images::ensure(cache, Image::Desktop)?, images::ensure(cache, Image::Jupyterlab)?];
    // Again, for building is long, and others may have used the cluster meanwhile.
    let lock = cache.lock("demo")?;
    let layout = cluster::up(cache, &lock, &UpArgs::default())?;
    say.heading("Berth is installed, and the organization `demo` filled from examples/");
    install(cache, &lock, &operator, &workspaces)?;
    let leader = install::leader(&layout)?;
    say.truth(&format!("{leader} runs in {} and leads", install::NAMESPACE));
    fill(&layout)?;
    let feed = Feed::start(&layout, NAMESPACE, say)?;
    let mut stage = Stage { layout: &layout, say, check, root: root(), feed };
    if let Err(error) = acts::all(&mut stage) {
        stage.diagnose();
        return Err(error);
    }
    say.heading(&format!("Done, in {} s", begun.elapsed().as_secs()));
    next(say);
    Ok(())
}

fn install(cache: &Cache, lock: &Lock, operator: &Prepared, workspaces: &[Built]) -> Result<()> {
    install::install(cache, lock, operator)?;
    workspaces.iter().try_for_each(|image| images::load(cache, lock, image))
}

/// Removes what an earlier run left, and applies `examples/`.
fn fill(layout: &Layout) -> Result<()> {
    let kubectl = |args: &[&str]| layout.kubectl().args(args).output();
    let sessions = kubectl(&["get", "sessions", "-n", NAMESPACE, "-o", "name"])?;
    if !sessions.is_empty() {
        step("sessions of an earlier run: removing them", || {
            kubectl(&["delete", "sessions", "--all", "-n", NAMESPACE, "--timeout=120s"])?;
            wait_until("all of their pods are gone", Duration::from_secs(120), || {
                Ok(kubectl(&["get", "pods", "-n", NAMESPACE, INSTANCES, "-o", "name"])?.is_empty())
            })
        })?;
    }
    step("examples/: applying", || {
        let examples = root().join("examples");
        let folder = examples.to_str().context("the repository's path is not UTF-8")?;
        // As a person applies them, who may do so again after this.
        kubectl(&["apply", "-f", folder])?;
        kubectl(&["rollout", "status", "-n", NAMESPACE, "deployment/machine", "--timeout=120s"]).map(drop)
    })
}

/// What to try next; each line can be pasted.
fn next(say: Say) {
    say.line("The cluster, Berth and the Workspaces of `demo` are up. To try next:");
    for line in NEXT.lines() {
        say.line(line);
    }
}

const NEXT: &str = r#"
eval "$(cargo xtask cluster env)"                     # kubectl for this shell
kubectl get workspaces,sessions -n demo

# the desktop, with any VNC viewer at 127.0.0.1:5900, by the password that is printed
session=$(kubectl create -f examples/sessions/desktop.yaml -o name)
kubectl wait -n demo $session --for=condition=Ready --timeout=3m
pod=$(kubectl get -n demo $session -o jsonpath='{.status.instance.pod}')
kubectl exec -n demo $pod -- cat /run/berth/vnc-password; echo
kubectl port-forward -n demo pod/$pod 5900

# JupyterLab, in the browser at http://127.0.0.1:8888/lab, by the token that is printed
session=$(kubectl create -f examples/sessions/jupyterlab.yaml -o name)
kubectl wait -n demo $session --for=condition=Ready --timeout=3m
pod=$(kubectl get -n demo $session -o jsonpath='{.status.instance.pod}')
kubectl exec -n demo $pod -- cat /run/berth/proxy-token; echo
kubectl port-forward -n demo pod/$pod 8888

# no input is seen over a forwarded port: say that you are there, and end it when you are done
kubectl patch -n demo $session --type=merge -p "{\"spec\":{\"keepAliveAt\":\"$(date -u +%FT%TZ)\"}}"
kubectl patch -n demo $session --type=merge -p '{"spec":{"desiredState":"Disconnected"}}'

cargo xtask cluster down                              # everything gone but the caches"#;
