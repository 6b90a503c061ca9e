//! The REST API against its own specification: Schemathesis makes requests of what the document says, wrong ones among them,
//! and holds each answer against it. Owns that tool, who calls, and which seed; what is answered is the gateway's.

use crate::cache::Cache;
use crate::cluster::Layout;
use crate::install::NAMESPACE;
use crate::run::{Run, step};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// The version of Schemathesis, installed from its package on first use.
const SCHEMATHESIS: &str = "4.32.5";
/// Where the requests come from: a change is judged by the same ones as the one before it.
const SEED: &str = "1";
/// How many requests are made of each operation.
const EXAMPLES: &str = "40";
/// The organization that the caller belongs to, and may end everything in.
const ORGANIZATION: &str = "schemathesis";

/// Lets nothing through that is a 5xx, or that the specification does not have.
pub fn check(cache: &Cache) -> Result<()> {
    let tool = step("schemathesis: the tool", || ensure_tool(cache))?;
    let layout = Layout::new(cache)?;
    let token = step("schemathesis: a caller", || caller(&layout))?;
    let pods = layout.kubectl().args([
        "-n",
        NAMESPACE,
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/name=berth-gateway",
        "-o",
        "json",
    ]);
    let pods: Value = serde_json::from_str(&pods.output()?)?;
    // By its own address: a forwarded port ends with the first connection that is cut.
    let address = pods["items"][0]["status"]["podIP"].as_str().context("no gateway runs: `cargo xtask install`")?;
    let log = cache.logs().join("schemathesis.log");
    let _ = fs::remove_file(&log);
    step("schemathesis: no 5xx, and nothing that is not in the specification", || {
        Run::new(&tool)
            .args(["run", "--seed", SEED, "--max-examples", EXAMPLES, "--workers", "2", "--no-color"])
            .args([
                "--checks",
                "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
            ])
            // A stream never ends, and its answer is no document.
            .args(["--exclude-path", "/api/sessions/events", "--rate-limit", "40/s"])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .arg(format!("http://{address}:8000/api/openapi.json"))
            .log(&log)
            .quiet()
    })?;
    let said = fs::read_to_string(&log)?;
    let tested = said.lines().find(|line| line.contains("Tested:")).unwrap_or_default().trim();
    ensure!(
        tested.split_whitespace().last().and_then(|count| count.parse().ok()).unwrap_or(0) >= 19,
        "few were tried: {tested}"
    );
    eprintln!("  {tested}");
    layout.kubectl().args(["delete", "namespace", ORGANIZATION, "--wait=false"]).quiet()
}

/// Python's own package, in a folder of its own.
fn ensure_tool(cache: &Cache) -> Result<PathBuf> {
    let home = cache.tools(&format!("schemathesis-{SCHEMATHESIS}"));
    let tool = home.join("bin/schemathesis");
    if !tool.exists() {
        let _ = fs::remove_dir_all(&home);
        let advice = "Python's virtual environments are needed: `apt-get install python3-venv`";
        Run::new("python3").args(["-m", "venv"]).arg(&home).advice(advice).quiet()?;
        let package = format!("schemathesis=={SCHEMATHESIS}");
        Run::new(home.join("bin/pip")).args(["install", "--quiet", &package]).quiet()?;
    }
    Ok(tool)
}

/// Somebody who may do everything in one organization; the token that they show.
fn caller(layout: &Layout) -> Result<String> {
    let account = |kind: &str, more: Value| {
        let mut object =
            json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": "caller", "namespace": ORGANIZATION } });
        for (key, value) in more.as_object().cloned().unwrap_or_default() {
            object[key] = value;
        }
        object
    };
    let rbac = "rbac.authorization.k8s.io";
    let bind = |role: &str| {
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": { "name": role, "namespace": ORGANIZATION },
            "roleRef": { "apiGroup": rbac, "kind": "ClusterRole", "name": role },
            "subjects": [{ "kind": "ServiceAccount", "name": "caller", "namespace": ORGANIZATION }],
        })
    };
    let objects = [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": ORGANIZATION } }),
        account("ServiceAccount", json!({})),
        bind("admin"),
        bind("berth-user"),
        json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace", "metadata": { "name": "box", "namespace": ORGANIZATION },
            "spec": { "type": "web", "access": { "protocol": "HTTP", "port": 80 }, "endpoint": { "host": "192.0.2.1" } },
        }),
    ];
    for object in objects {
        layout
            .kubectl()
            .args(["apply", "--server-side", "--force-conflicts", "-f", "-"])
            .input(object.to_string())
            .quiet()?;
    }
    let token =
        layout.kubectl().args(["-n", ORGANIZATION, "create", "token", "caller", "--audience=berth"]).output()?;
    Ok(token.trim().to_owned())
}
