//! `cargo xtask cluster`: a Kubernetes cluster on this machine.
//!
//! Owns the subcommands, their options and the order of the steps; the steps are in the modules below.

mod control;
mod down;
mod image;
mod layout;
mod node;
mod objects;
mod packages;
mod pki;
mod process;
mod selftest;
mod simulated;
mod snapshot;
mod status;
mod storage;
pub mod tools;
mod wanted;

use crate::cache::{Cache, Lock};
use crate::run::{step, wait_until};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use layout::NODE;
pub use layout::{KUBERNETES, Layout};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use wanted::Wanted;

/// How many simulated nodes fault plans have.
const FAULT_NODES: u32 = 2;

/// Options of `cargo xtask cluster`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask cluster up                             one real node
  cargo xtask cluster up --simulated 40              40 simulated nodes beside it
  cargo xtask cluster up --no-node --simulated 40    simulated nodes alone: needs no root
  cargo xtask cluster up --kubeconfig ~/.kube/config a cluster that exists
  eval \"$(cargo xtask cluster env)\"                  kubectl and helm for this shell
  cargo xtask cluster status && echo all is up
  cargo xtask cluster down --purge                   the caches too")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the cluster up, or repair it: does nothing that is done already
    Up(UpArgs),
    /// Take the cluster down and leave nothing behind but the caches
    Down {
        /// Remove the caches too
        #[arg(long)]
        purge: bool,
    },
    /// Say what is up and what is not; exits 0 only when all is up
    Status,
    /// Print lines to `eval`: KUBECONFIG (administrator), and PATH with kubectl and helm
    Env,
    /// End one part as a crash would; `up` repairs it
    #[command(hide = true)]
    Stop {
        /// Its name, as `status` has it
        part: String,
    },
    /// Check that `down` leaves nothing behind, also after `up` was killed
    Selftest(selftest::Args),
}

/// What `cluster up` shall bring up.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct UpArgs {
    /// How many simulated nodes there shall be [default: as many as there are]
    #[arg(long, value_name = "N")]
    pub simulated: Option<u32>,
    /// No real node: the control plane and simulated nodes need no root
    #[arg(long)]
    pub no_node: bool,
    /// Use a cluster that exists instead of bringing one up
    #[arg(long, value_name = "FILE", conflicts_with_all = ["simulated", "no_node", "audit"])]
    pub kubeconfig: Option<PathBuf>,
    /// Log every request to the API server until the cluster is taken down
    #[arg(long)]
    pub audit: bool,
    /// Do not build helm
    #[arg(long)]
    pub without_helm: bool,
}

/// Runs the subcommand.
pub fn main(args: Args) -> Result<ExitCode> {
    let cache = Cache::open()?;
    match args.command {
        Command::Up(options) => {
            let lock = cache.lock("cluster up")?;
            up(&cache, &lock, &options)?;
            eprintln!("the cluster is up; for this shell: eval \"$(cargo xtask cluster env)\"");
        }
        Command::Down { purge } => {
            let lock = cache.lock("cluster down")?;
            take_down(&cache, &lock)?;
            if purge {
                cache.purge()?;
            } else {
                eprintln!("the cluster is down; caches stay in {}", cache.root().display());
            }
        }
        Command::Status => {
            let layout = Layout::new(&cache)?;
            let Some(wanted) = Wanted::read(&layout)? else {
                println!("there is no cluster; `cargo xtask cluster up` brings one up");
                return Ok(ExitCode::FAILURE);
            };
            let parts = status::look(&layout, &wanted)?;
            status::print(&layout, &parts);
            return Ok(if parts.iter().all(|p| p.up) { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Stop { part } => {
            let _lock = cache.lock("cluster stop")?;
            stop(&Layout::new(&cache)?, &part)?;
        }
        Command::Selftest(args) => selftest::run(&cache, &args)?,
        Command::Env => env(&Layout::new(&cache)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Brings the cluster up, or repairs it, or changes what it consists of.
pub fn up(cache: &Cache, _lock: &Lock, options: &UpArgs) -> Result<Layout> {
    let layout = Layout::new(cache)?;
    let before = Wanted::read(&layout)?.unwrap_or_default();
    if let Some(kubeconfig) = &options.kubeconfig {
        use_existing(&layout, kubeconfig, options)?;
        return Ok(layout);
    }
    if before.kubeconfig.is_some() {
        down::down(&layout)?;
    }
    let wanted = Wanted {
        node: !options.no_node,
        simulated: options.simulated.unwrap_or(before.simulated),
        audit: options.audit || before.audit,
        kubeconfig: None,
    };
    if wanted.node {
        root_or_advice()?;
        packages::ensure(cache)?;
    }
    build(&layout, &wanted)?;
    wanted.write(&layout)?;
    pki::ensure(&layout)?;
    link_programs(&layout, &tools::KUBECTL)?;
    if !wanted.node {
        node::remove(&layout)?;
    }
    start(&layout, &wanted)?;
    if !options.without_helm {
        tools::HELM.ensure(cache)?;
        link_programs(&layout, &tools::HELM)?;
    }
    Ok(layout)
}

/// Brings up the control plane that fault plans run on, with simulated nodes, or repairs it; one that cannot be
/// repaired is replaced.
pub fn up_for_faults(cache: &Cache, _lock: &Lock) -> Result<Layout> {
    let layout = Layout::for_faults(cache)?;
    let wanted = Wanted { simulated: FAULT_NODES, ..Wanted::default() };
    build(&layout, &wanted)?;
    let bring_up = || -> Result<()> {
        wanted.write(&layout)?;
        pki::ensure(&layout)?;
        link_programs(&layout, &tools::KUBECTL)?;
        start(&layout, &wanted)
    };
    if let Err(error) = bring_up() {
        eprintln!("the control plane for faults is replaced: {error:#}");
        down::control_plane(&layout)?;
        bring_up()?;
    }
    Ok(layout)
}

/// Takes the cluster down, and the control plane for faults.
pub fn take_down(cache: &Cache, _lock: &Lock) -> Result<()> {
    down::control_plane(&Layout::for_faults(cache)?)?;
    down::down(&Layout::new(cache)?)
}

/// Ends the one process of a part, without a word to it.
fn stop(layout: &Layout, part: &str) -> Result<()> {
    let process = process::of(layout, part, part)?.with_context(|| format!("no {part} runs in this cluster"))?;
    process::end([&process], Duration::from_secs(10))
}

/// Brings the images of an archive (Docker's format) to the real node, unless they are there already.
pub fn load_image(layout: &Layout, archive: &Path) -> Result<()> {
    let init = node::init(layout)?.context("there is no real node to bring an image to: `cargo xtask cluster up`")?;
    image::load(layout, init, archive)
}

fn root_or_advice() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let missing = packages::missing();
    let packages = if missing.is_empty() {
        String::new()
    } else {
        format!(" (and these Debian packages, which are missing: {})", missing.join(" "))
    };
    bail!(
        "a real node needs root{packages}. Without root:\n  \
         cargo xtask cluster up --no-node --simulated 5    pods are played, none runs\n  \
         cargo xtask cluster up --kubeconfig FILE          a cluster that exists"
    )
}

fn use_existing(layout: &Layout, kubeconfig: &Path, options: &UpArgs) -> Result<()> {
    let path = kubeconfig.canonicalize().with_context(|| format!("cannot find {}", kubeconfig.display()))?;
    let text = path.to_string_lossy().into_owned();
    if Wanted::read(layout)?.is_some_and(|w| w.kubeconfig.as_ref() != Some(&text)) {
        down::down(layout)?;
    }
    tools::KUBECTL.ensure(&layout.cache)?;
    link_programs(layout, &tools::KUBECTL)?;
    if !options.without_helm {
        tools::HELM.ensure(&layout.cache)?;
        link_programs(layout, &tools::HELM)?;
    }
    status::external(layout, &text)
        .args(["get", "--raw", "/readyz"])
        .quiet()
        .with_context(|| format!("the cluster of {text} does not answer"))?;
    Wanted { kubeconfig: Some(text), ..Wanted::default() }.write(layout)
}

fn build(layout: &Layout, wanted: &Wanted) -> Result<()> {
    use tools::{API_SERVER, CONTROLLER_MANAGER, ETCD, KUBE_PROXY, KUBECTL, KUBELET, KWOK, PROVISIONER, SCHEDULER};
    let mut needed = vec![ETCD, API_SERVER, KUBECTL, CONTROLLER_MANAGER, SCHEDULER];
    if wanted.node {
        needed.extend([KUBELET, KUBE_PROXY, PROVISIONER]);
    }
    if wanted.simulated > 0 {
        needed.push(KWOK);
    }
    for tool in needed {
        tool.ensure(&layout.cache)?;
    }
    Ok(())
}

fn start(layout: &Layout, wanted: &Wanted) -> Result<()> {
    let mut init = 0;
    if wanted.node {
        init = node::ensure_box(layout)?;
        node::ensure_network(layout, init)?;
    }
    control::start_api(layout, wanted)?;
    if wanted.node {
        node::start_containerd(layout, init)?;
    }
    unless(control::ready(layout), "control plane", || control::wait_for_api(layout))?;
    control::start_controllers(layout)?;
    if wanted.node {
        node::wait_for_containerd(layout, init)?;
        image::ensure_base(layout, init)?;
        node::start_kubelet(layout, init)?;
    }
    objects::ensure(layout, wanted.node)?;
    if wanted.node {
        storage::start(layout)?;
    } else {
        // Of the same cluster, with a real node before.
        layout.kubectl().args(["delete", "node", NODE, "--ignore-not-found", "--wait=false"]).quiet()?;
    }
    simulated::ensure(layout, wanted.simulated)?;
    let up = status::look(layout, wanted)?.iter().all(|p| p.up);
    unless(up, "nodes", || {
        if wanted.simulated > 0 {
            simulated::wait(layout, wanted.simulated)?;
        }
        wait_until("all of the cluster is up", Duration::from_secs(90), || {
            Ok(status::look(layout, wanted)?.iter().all(|p| p.up))
        })
        .context("`cargo xtask cluster status` says what is not")
    })
}

fn unless(done: bool, title: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if done { Ok(()) } else { step(title, work) }
}

/// Puts a program under its own name into the folder that goes on PATH.
fn link_programs(layout: &Layout, tool: &tools::Tool) -> Result<()> {
    let (target, link) = (tool.path(&layout.cache)?, layout.bin().join(tool.name));
    if fs::read_link(&link).is_ok_and(|now| now == target) {
        return Ok(());
    }
    fs::create_dir_all(layout.bin())?;
    let unfinished = layout.bin().join(format!("{}.unfinished", tool.name));
    let _ = fs::remove_file(&unfinished);
    symlink(&target, &unfinished)?;
    Ok(fs::rename(unfinished, link)?)
}

fn env(layout: &Layout) -> Result<()> {
    let wanted = Wanted::read(layout)?.context("there is no cluster; `cargo xtask cluster up` brings one up")?;
    println!("export KUBECONFIG='{}'", wanted.kubeconfig.unwrap_or_else(|| layout.admin()));
    println!("export PATH='{}':\"$PATH\"", layout.bin().display());
    Ok(())
}
