//! A gateway of the benchmark's own: the binary that is installed, as a process on loopback, with a store of its own and an account
//! of its own, whose chain's head and Lease are in the benchmark's namespace. Beside it, its floor: a handler that answers bytes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Api, DeleteParams};
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use crate::access::{Access, NAMESPACE, apply};
use crate::process::Process;

/// The account, and the bindings of its rights.
const NAME: &str = "berth-bench-gateway";
/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// A process that this one has started and ends.
struct Started(Child);

impl Started {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.end();
    }
}

/// A gateway.
pub struct Gateway {
    /// Where it answers.
    pub address: SocketAddr,
    started: Started,
    folder: PathBuf,
}

impl Gateway {
    /// Starts one, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(access: &Access, out: &Path) -> Result<Self> {
        // What an earlier one published is none of this chain's.
        let heads: Api<ConfigMap> = Api::namespaced(access.admin.clone(), NAMESPACE);
        let _ = heads.delete("berth-audit-head", &DeleteParams::default()).await;
        let folder = out.join(format!("gateway-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let kubeconfig = folder.join("kubeconfig.json");
        secret(&kubeconfig, &account(access).await?.to_string())?;
        let config = folder.join("config.yaml");
        // The benchmark is one caller, and asks as many do.
        let most = json!({"requestsPerSecond": 1_000_000, "burst": 1_000_000, "connections": 8192});
        std::fs::write(&config, json!({"gateway": {"limits": most}}).to_string())?;
        let (address, health, metrics) = (free()?, free()?, free()?);
        let binary =
            std::env::var_os("BERTH_BINARY").context("BERTH_BINARY names Berth's binary: run `cargo xtask bench`")?;
        let log = std::fs::File::create(folder.join("log"))?;
        let child = Command::new(binary)
            .arg("gateway")
            .arg("--config")
            .arg(&config)
            .args(["--address", &address.to_string(), "--namespace", NAMESPACE, "--identity", NAME])
            .args(["--health-address", &health.to_string(), "--metrics-address", &metrics.to_string()])
            .args(["--store", &format!("sqlite:{}", folder.join("berth.db").display())])
            .env("KUBECONFIG", &kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("the gateway does not start")?;
        let gateway = Self { address, started: Started(child), folder };
        let http = Http::new();
        let begun = Instant::now();
        loop {
            if http.get(address, "/readyz", "").await.is_ok_and(|(status, _)| status == 200) {
                return Ok(gateway);
            }
            if begun.elapsed() > READY {
                bail!("the gateway is not ready: see {}", gateway.folder.join("log").display());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process::by_id(self.started.0.id())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The store is the largest of it, and of no use any more.
        self.started.end();
        for file in ["berth.db", "berth.db-wal", "berth.db-shm", "kubeconfig.json"] {
            let _ = std::fs::remove_file(self.folder.join(file));
        }
    }
}

/// Writes what is for nobody else's eyes.
fn secret(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(std::io::Write::write_all(&mut file, text.as_bytes())?)
}

/// A port of loopback that nobody has.
fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The configuration of a client that has the rights of an installed gateway.
async fn account(access: &Access) -> Result<Value> {
    let person = access.person(NAMESPACE, NAME, None).await?;
    let subjects = json!([{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]);
    let rbac = "rbac.authorization.k8s.io";
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": NAME},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "berth-gateway"}, "subjects": subjects,
    });
    apply(&Api::<ClusterRoleBinding>::all(access.admin.clone()), NAME, &binding).await?;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": NAME}, "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "patch", "delete"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "patch"]},
        ],
    });
    apply(&Api::<Role>::namespaced(access.admin.clone(), NAMESPACE), NAME, &role).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": NAME},
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": NAME}, "subjects": subjects,
    });
    apply(&Api::<RoleBinding>::namespaced(access.admin.clone(), NAMESPACE), NAME, &binding).await?;
    let mut config = serde_json::to_value(Kubeconfig::read().context("no kubeconfig")?)?;
    for user in config["users"].as_array_mut().into_iter().flatten() {
        user["user"] = json!({"token": person.token});
    }
    Ok(config)
}

/// The floor of a read: a handler that answers these bytes, in a process of its own.
pub struct Floor {
    /// Where it answers.
    pub address: SocketAddr,
    _started: Started,
}

impl Floor {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(bytes: &[u8], out: &Path) -> Result<Self> {
        let file = out.join("floor.json");
        std::fs::write(&file, bytes)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let said = child.stdout.take().context("the floor says nothing")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(said), &mut line)?;
        Ok(Self { address: line.trim().parse().context("the floor says no address")?, _started: Started(child) })
    }
}

/// Serves the bytes of a file until the process ends, and says where.
///
/// # Errors
/// When it cannot listen.
pub async fn serve(file: &Path) -> Result<()> {
    let bytes = Bytes::from(std::fs::read(file)?);
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let handler = move || {
        let bytes = bytes.clone();
        async move { ([(CONTENT_TYPE, "application/json")], bytes) }
    };
    axum::serve(listener, Router::new().route("/api/sessions", get(handler))).await?;
    Ok(())
}

/// A client with connections that it keeps.
#[derive(Clone)]
pub struct Http(HttpClient<HttpConnector, Full<Bytes>>);

impl Http {
    /// One without a connection yet.
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(HttpClient::builder(TokioExecutor::new()).build(connector))
    }

    /// The answer to a GET: its status, and the body once all of it is here.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get(&self, address: SocketAddr, path: &str, token: &str) -> Result<(u16, Bytes)> {
        let answer = self.0.request(request("GET", address, path, token, "")?).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// The answer to a POST.
    ///
    /// # Errors
    /// When there is none.
    pub async fn post(&self, address: SocketAddr, path: &str, token: &str, body: &str) -> Result<(u16, Bytes)> {
        let answer = self.0.request(request("POST", address, path, token, body)?).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// A stream of events: each piece that comes is told, until the server ends it or nobody listens.
    ///
    /// # Errors
    /// When it does not begin.
    pub async fn listen(&self, address: SocketAddr, token: &str, mut heard: impl FnMut(&[u8]) -> bool) -> Result<()> {
        let answer = self.0.request(request("GET", address, "/api/sessions/events", token, "")?).await?;
        if answer.status().as_u16() != 200 {
            bail!("the stream of events is answered by {}", answer.status());
        }
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame?;
            if !frame.data_ref().is_none_or(|data| heard(data)) {
                break;
            }
        }
        Ok(())
    }
}

fn request(
    method: &str,
    address: SocketAddr,
    path: &str,
    token: &str,
    body: &str,
) -> Result<http::Request<Full<Bytes>>> {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .header("authorization", format!("Bearer {token}"));
    Ok(request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?)
}
