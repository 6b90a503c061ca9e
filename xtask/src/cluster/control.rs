//! The control plane: etcd, the API server, the controller manager and the scheduler, as processes of this machine.

use super::layout::{HOST_ADDRESS, Layout, SERVICE_CIDR};
use super::pki::write_if_changed;
use super::process::{self, Daemon};
use super::tools;
use super::wanted::Wanted;
use crate::run::wait_until;
use anyhow::{Context, Result};
use serde_json::json;
use std::time::Duration;

/// Without this many requests a second the scheduler and the controller manager are the bottleneck under load.
const CLIENT_RATE: [&str; 2] = ["--kube-api-qps=1000", "--kube-api-burst=2000"];

/// How long a node may be silent before it counts as lost. The kubelet renews its lease every 4 s, kwok every 5 s.
const NODE_GRACE: &str = "--node-monitor-grace-period=20s";

/// Starts etcd and the API server.
pub fn start_api(layout: &Layout, wanted: &Wanted) -> Result<()> {
    etcd(layout)?;
    api_server(layout, wanted)
}

fn etcd(layout: &Layout) -> Result<()> {
    let client = format!("http://127.0.0.1:{}", layout.ports.etcd);
    let peer = format!("http://127.0.0.1:{}", layout.ports.etcd_peer);
    Daemon::new("etcd", tools::ETCD.path(&layout.cache)?)
        .args([
            "--name=berth".to_owned(),
            format!("--data-dir={}", layout.at("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=berth={peer}"),
            // The data goes with the cluster: what a power cut may cost is not worth a disk's pace.
            "--unsafe-no-fsync".to_owned(),
            "--quota-backend-bytes=4294967296".to_owned(),
            "--log-level=warn".to_owned(),
        ])
        .port(layout.ports.etcd)
        .port(layout.ports.etcd_peer)
        .ensure(layout)
}

fn api_server(layout: &Layout, wanted: &Wanted) -> Result<()> {
    let authentication = layout.at("config/authentication.json");
    let paths: Vec<_> = ["/livez", "/readyz", "/healthz"].map(|path| json!({"path": path})).into();
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": {"enabled": true, "conditions": paths},
    });
    write_if_changed(&authentication, &serde_json::to_string_pretty(&config)?)?;
    let daemon = Daemon::new("kube-apiserver", tools::API_SERVER.path(&layout.cache)?)
        .args([
            format!("--etcd-servers=http://127.0.0.1:{}", layout.ports.etcd),
            format!("--secure-port={}", layout.ports.api),
            format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            format!("--authentication-config={authentication}"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", layout.pki("accounts.pub")),
            format!("--service-account-signing-key-file={}", layout.pki("accounts.key")),
            format!("--client-ca-file={}", layout.pki("ca.crt")),
            format!("--tls-cert-file={}", layout.pki("apiserver.crt")),
            format!("--tls-private-key-file={}", layout.pki("apiserver.key")),
            format!("--kubelet-certificate-authority={}", layout.pki("ca.crt")),
            format!("--kubelet-client-certificate={}", layout.pki("apiserver-to-kubelet.crt")),
            format!("--kubelet-client-key={}", layout.pki("apiserver-to-kubelet.key")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--cert-dir={}", layout.at("config")),
        ])
        .input(authentication)
        .input(layout.pki("apiserver.crt"))
        .port(layout.ports.api);
    let daemon = if wanted.node {
        // The node comes in by its link, kubectl by loopback.
        daemon.args([format!("--advertise-address={HOST_ADDRESS}"), "--bind-address=0.0.0.0".to_owned()])
    } else {
        daemon.args(["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"])
    };
    let daemon = if wanted.audit {
        let policy = layout.at("config/audit.json");
        let text = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata"}],
        });
        write_if_changed(&policy, &text.to_string())?;
        daemon.args([
            format!("--audit-policy-file={policy}"),
            format!("--audit-log-path={}", layout.log("audit").display()),
        ])
    } else {
        daemon
    };
    daemon.ensure(layout)
}

/// Waits until the API server serves, its own start-up work done.
pub fn wait_for_api(layout: &Layout) -> Result<()> {
    let log = layout.log("kube-apiserver");
    wait_until("the API server is ready", Duration::from_secs(90), || {
        process::must_run(layout, "etcd", "etcd")?;
        process::must_run(layout, "kube-apiserver", "kube-apiserver")?;
        Ok(ready(layout))
    })
    .with_context(|| format!("see {} and {}", log.display(), layout.log("etcd").display()))
}

/// Whether the API server says that it is ready.
pub fn ready(layout: &Layout) -> bool {
    layout.kubectl().args(["--request-timeout=5s", "get", "--raw", "/readyz"]).succeeds()
}

/// Starts the controller manager and the scheduler; the API server must serve.
pub fn start_controllers(layout: &Layout) -> Result<()> {
    let user = |name: &str| {
        let kubeconfig = layout.kubeconfig(name);
        [
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--authentication-tolerate-lookup-failure=true".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            // One of each: an election would only write leases.
            "--leader-elect=false".to_owned(),
            format!("--tls-cert-file={}", layout.pki("apiserver.crt")),
            format!("--tls-private-key-file={}", layout.pki("apiserver.key")),
        ]
    };
    Daemon::new("kube-controller-manager", tools::CONTROLLER_MANAGER.path(&layout.cache)?)
        .args(user("controller-manager"))
        .args([
            format!("--secure-port={}", layout.ports.controller_manager),
            format!("--root-ca-file={}", layout.pki("ca.crt")),
            format!("--service-account-private-key-file={}", layout.pki("accounts.key")),
            format!("--cluster-signing-cert-file={}", layout.pki("ca.crt")),
            format!("--cluster-signing-key-file={}", layout.pki("ca.key")),
            "--use-service-account-credentials=true".to_owned(),
            NODE_GRACE.to_owned(),
            "--node-monitor-period=2s".to_owned(),
        ])
        .args(CLIENT_RATE)
        .input(layout.kubeconfig("controller-manager"))
        .port(layout.ports.controller_manager)
        .ensure(layout)?;
    Daemon::new("kube-scheduler", tools::SCHEDULER.path(&layout.cache)?)
        .args(user("scheduler"))
        .args([format!("--secure-port={}", layout.ports.scheduler)])
        .args(CLIENT_RATE)
        .input(layout.kubeconfig("scheduler"))
        .port(layout.ports.scheduler)
        .ensure(layout)
}
