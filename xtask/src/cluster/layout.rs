//! Names, addresses, ports and paths of the cluster: the one table that every other part reads.

use crate::cache::Cache;
use crate::run::Run;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The Kubernetes version that is built and run.
pub const KUBERNETES: &str = "v1.36.3";
/// The real node's name.
pub const NODE: &str = "berth-node";
/// The link between this machine and the node's network; its other end is the node's `eth0`.
pub const LINK: &str = "berth0";
/// This machine's address on that link, where pods and the kubelet find the API server.
pub const HOST_ADDRESS: &str = "10.99.0.1";
/// The real node's address.
pub const NODE_ADDRESS: &str = "10.99.0.2";
/// Addresses of pods on the real node.
pub const POD_CIDR: &str = "10.244.0.0/24";
/// Addresses of pods on simulated nodes: nothing answers there.
pub const SIMULATED_POD_CIDR: &str = "10.248.0.0/13";
/// Addresses of Services.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The API server's Service.
pub const API_SERVICE_ADDRESS: &str = "10.96.0.1";
/// Where pods look for DNS. Nothing answers: lookups are refused at once.
pub const DNS_ADDRESS: &str = "10.96.0.10";
/// The folder under each cgroup hierarchy that holds all of the node's pods.
pub const CGROUP: &str = "berth";
/// The image that holds a pod's sandbox open.
pub const PAUSE_IMAGE: &str = "localhost/berth-pause:1";
/// The image with a shell and small tools, for tests' own pods.
pub const BUSYBOX_IMAGE: &str = "localhost/berth-busybox:1";
/// The environment variable that marks every process of a cluster; its value is the state folder.
pub const MARK: &str = "BERTH_CLUSTER";
/// The environment variable that names the part of the cluster that a process is.
pub const MARK_COMPONENT: &str = "BERTH_COMPONENT";
/// The environment variable with a fingerprint of how a process was started.
pub const MARK_SPEC: &str = "BERTH_SPEC";
/// The port numbers' offset, for a machine where the usual ones are taken.
pub const PORT_OFFSET: &str = "BERTH_PORT_OFFSET";

/// How far the ports of the second control plane are from those of the first.
const SECOND: u16 = 200;

/// Ports on this machine. The real node's own ports lie in its own network namespace.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The API server.
    pub api: u16,
    /// etcd, for its clients.
    pub etcd: u16,
    /// etcd, for its peers.
    pub etcd_peer: u16,
    /// The controller manager's health and metrics.
    pub controller_manager: u16,
    /// The scheduler's health and metrics.
    pub scheduler: u16,
    /// The node simulator's health and metrics.
    pub kwok: u16,
}

impl Ports {
    fn from_env() -> Result<Self> {
        let text = std::env::var(PORT_OFFSET).unwrap_or_default();
        let offset: u16 = match text.as_str() {
            "" => 0,
            text => text
                .parse()
                .ok()
                .filter(|n| *n < 40_000)
                .with_context(|| format!("{PORT_OFFSET} is `{text}`, and should be a number below 40000"))?,
        };
        let usual = Self {
            api: 16443,
            etcd: 16379,
            etcd_peer: 16380,
            controller_manager: 16257,
            scheduler: 16259,
            kwok: 16247,
        };
        Ok(usual.moved(offset))
    }

    fn moved(self, by: u16) -> Self {
        let Self { api, etcd, etcd_peer, controller_manager, scheduler, kwok } = self;
        Self {
            api: api + by,
            etcd: etcd + by,
            etcd_peer: etcd_peer + by,
            controller_manager: controller_manager + by,
            scheduler: scheduler + by,
            kwok: kwok + by,
        }
    }
}

/// Where one cluster's things are.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The cache that the cluster's state lies in.
    pub cache: Cache,
    /// Ports on this machine.
    pub ports: Ports,
    state: PathBuf,
}

impl Layout {
    /// The layout of the cluster whose state lies in this cache.
    pub fn new(cache: &Cache) -> Result<Self> {
        Self::at_ports(cache, cache.cluster(), Ports::from_env()?)
    }

    /// The layout of the control plane that fault plans run on, beside the cluster: no operator is installed in it.
    pub fn for_faults(cache: &Cache) -> Result<Self> {
        Self::at_ports(cache, cache.faults(), Ports::from_env()?.moved(SECOND))
    }

    fn at_ports(cache: &Cache, state: PathBuf, ports: Ports) -> Result<Self> {
        if state.to_str().is_none_or(|s| s.contains([' ', ',', ':', '"', '\\', '\n'])) {
            bail!(
                "the cache's path {} has a character that other programs' settings cannot hold; set BERTH_CACHE",
                state.display()
            );
        }
        Ok(Self { cache: cache.clone(), ports, state })
    }

    /// The folder that goes with `cluster down`.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A file or folder in the state folder, as text: most paths end up as arguments or in settings.
    pub fn at(&self, relative: &str) -> String {
        self.state.join(relative).to_string_lossy().into_owned()
    }

    /// The log file of one part of the cluster.
    pub fn log(&self, component: &str) -> PathBuf {
        self.state.join("logs").join(format!("{component}.log"))
    }

    /// The kubeconfig of one user of the cluster.
    pub fn kubeconfig(&self, user: &str) -> String {
        self.at(&format!("kubeconfig/{user}"))
    }

    /// The administrator's kubeconfig.
    pub fn admin(&self) -> String {
        self.kubeconfig("admin")
    }

    /// A certificate's or key's file.
    pub fn pki(&self, file: &str) -> String {
        self.at(&format!("pki/{file}"))
    }

    /// The folder with `kubectl` and `helm` that `cluster env` puts on PATH.
    pub fn bin(&self) -> PathBuf {
        self.state.join("bin")
    }

    /// The API server as processes on this machine reach it.
    pub fn api_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api)
    }

    /// The API server as the real node reaches it.
    pub fn api_url_from_node(&self) -> String {
        format!("https://{HOST_ADDRESS}:{}", self.ports.api)
    }

    /// A command that `cluster down` ends if it outlives the run that started it.
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>) -> Run {
        Run::new(program).env(MARK, &self.state).env(MARK_COMPONENT, "command")
    }

    /// `kubectl` as the administrator.
    pub fn kubectl(&self) -> Run {
        self.run(self.bin().join("kubectl"))
            .env("KUBECONFIG", self.admin())
            .env("KUBECACHEDIR", self.at("kubectl-cache"))
    }
}
