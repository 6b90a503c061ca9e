//! Programs built from Go modules on first use, and never again until their module changes.
//!
//! Owns which modules and packages there are and where the built programs lie. The modules are under
//! `testbed/tools`; none has code of its own.

use super::layout::KUBERNETES;
use crate::cache::Cache;
use crate::compile;
use crate::run::{Run, step};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// One program.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The program's file name.
    pub name: &'static str,
    module: &'static str,
    package: &'static str,
}

const fn kubernetes(name: &'static str, package: &'static str) -> Tool {
    Tool { name, module: "kubernetes", package }
}

/// The store under the API server.
pub const ETCD: Tool = kubernetes("etcd", "go.etcd.io/etcd/server/v3");
/// The API server.
pub const API_SERVER: Tool = kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");
/// The controller manager.
pub const CONTROLLER_MANAGER: Tool =
    kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager");
/// The scheduler.
pub const SCHEDULER: Tool = kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler");
/// The node's agent.
pub const KUBELET: Tool = kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet");
/// The node's Services.
pub const KUBE_PROXY: Tool = kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy");
/// The command line client.
pub const KUBECTL: Tool = kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl");
/// The package manager.
pub const HELM: Tool = Tool { name: "helm", module: "helm", package: "helm.sh/helm/v4/cmd/helm" };
/// Runs the chart's unit tests.
pub const HELM_UNITTEST: Tool = Tool {
    name: "helm-unittest",
    module: "helm-unittest",
    package: "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
};
/// Writes the chart's page from its values.
pub const HELM_DOCS: Tool =
    Tool { name: "helm-docs", module: "helm-docs", package: "github.com/norwoodj/helm-docs/cmd/helm-docs" };
/// Holds objects to the schemas of their kinds.
pub const KUBECONFORM: Tool =
    Tool { name: "kubeconform", module: "kubeconform", package: "github.com/yannh/kubeconform/cmd/kubeconform" };
/// Checks and tests the alerts.
pub const PROMTOOL: Tool =
    Tool { name: "promtool", module: "prometheus", package: "github.com/prometheus/prometheus/cmd/promtool" };
/// Scrapes and keeps metrics.
pub const PROMETHEUS: Tool =
    Tool { name: "prometheus", module: "prometheus", package: "github.com/prometheus/prometheus/cmd/prometheus" };
/// The simulator of nodes.
pub const KWOK: Tool = Tool { name: "kwok", module: "kwok", package: "sigs.k8s.io/kwok/cmd/kwok" };
/// The provisioner of volumes on the real node.
pub const PROVISIONER: Tool =
    Tool { name: "local-path-provisioner", module: "storage", package: "github.com/rancher/local-path-provisioner" };

impl Tool {
    /// Where the program lies once it is built.
    pub fn path(&self, cache: &Cache) -> Result<PathBuf> {
        Ok(self.home(cache)?.join("bin").join(self.name))
    }

    /// The folder of the program's module in the cache.
    pub fn home(&self, cache: &Cache) -> Result<PathBuf> {
        Ok(cache.tools(&format!("{}-{}", self.module, self.key()?)))
    }

    /// Builds the program unless it is built, and returns where it lies.
    pub fn ensure(&self, cache: &Cache) -> Result<PathBuf> {
        let path = self.path(cache)?;
        if path.exists() {
            return Ok(path);
        }
        step(&format!("{}: building from its Go module, on first use only", self.name), || self.build(cache, &path))?;
        Ok(path)
    }

    fn key(&self) -> Result<String> {
        let source = source(self.module);
        let sums = Run::new("sha256sum").args([source.join("go.mod"), source.join("go.sum")]).output()?;
        // Both digests, not the file names beside them, so that every clone of the same commit agrees.
        let digests: Vec<&str> = sums.lines().filter_map(|l| l.split_whitespace().next()).collect();
        let digest = Run::new("sha256sum").input(digests.join("\n")).output()?;
        Ok(digest.chars().take(12).collect())
    }

    fn build(&self, cache: &Cache, path: &Path) -> Result<()> {
        go_is_installed()?;
        let home = self.home(cache)?;
        let source = home.join("src");
        fs::create_dir_all(&source).with_context(|| format!("cannot create {}", source.display()))?;
        for file in ["go.mod", "go.sum"] {
            fs::copy(self::source(self.module).join(file), source.join(file))?;
        }
        let unfinished = home.join("bin").join(format!("{}.unfinished", self.name));
        self.go(cache, &source)
            .args(["build", "-trimpath", "-ldflags", &self.linker_flags(), "-o"])
            .arg(&unfinished)
            .arg(self.package)
            .quiet()?;
        if self.name == KWOK.name {
            self.keep_stages(cache, &source, &home)?;
        }
        fs::rename(&unfinished, path).with_context(|| format!("cannot create {}", path.display()))
    }

    fn go(&self, cache: &Cache, source: &Path) -> Run {
        Run::new("go")
            .dir(source)
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "-buildvcs=false")
            .env("GOWORK", "off")
            .log(cache.logs().join(format!("build-{}.log", self.name)))
            .advice("modules come through the Go module proxy: is it reachable (go env GOPROXY)?")
    }

    fn linker_flags(&self) -> String {
        let mut flags = "-s -w".to_owned();
        if self.module == "kubernetes" {
            let mut parts = KUBERNETES.trim_start_matches('v').split('.');
            let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            for (name, value) in [("gitVersion", KUBERNETES), ("gitMajor", major), ("gitMinor", minor)] {
                flags.push_str(&format!(" -X k8s.io/component-base/version.{name}={value}"));
            }
        }
        flags
    }

    /// Go's module cache may be emptied at any time, so what kwok needs at run time is kept beside the program.
    fn keep_stages(&self, cache: &Cache, source: &Path, home: &Path) -> Result<()> {
        let listing = Run::new("go")
            .dir(source)
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "-buildvcs=false")
            .env("GOWORK", "off")
            .args(["list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"])
            .output()?;
        let stages = Path::new(listing.trim()).join("kustomize/stage");
        let kept = home.join("stages");
        fs::create_dir_all(&kept)?;
        for (index, stage) in STAGES.iter().enumerate() {
            let text = fs::read(stages.join(stage))
                .with_context(|| format!("kwok's module has no {stage}; see {}", cache.logs().display()))?;
            fs::write(kept.join(format!("{index}.yaml")), text)?;
        }
        Ok(())
    }
}

/// What kwok does to nodes, pods and volumes.
const STAGES: [&str; 9] = [
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
    "volume/fast/pv-bind.yaml",
    "volume/fast/pv-delete.yaml",
    "volume/fast/pvc-provision.yaml",
    "volume/fast/pvc-delete.yaml",
];

fn source(module: &str) -> PathBuf {
    compile::root().join("testbed").join("tools").join(module)
}

fn go_is_installed() -> Result<()> {
    let advice = "install Go 1.26 or newer: the cluster's programs are built from Go modules";
    let version = Run::new("go").env("GOTOOLCHAIN", "local").args(["env", "GOVERSION"]).advice(advice).output()?;
    let minor = version.trim().trim_start_matches("go1.").split('.').next().and_then(|m| m.parse::<u32>().ok());
    if minor.is_some_and(|m| m < 26) {
        bail!("{} is installed; {advice}", version.trim());
    }
    Ok(())
}
