//! A namespace full of sessions on simulated nodes. Owns launching, ending and watching them; not what is
//! measured meanwhile.

use crate::cluster::Layout;
use crate::run::{step, wait_until};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// A namespace with one Workspace, one policy and many sessions.
pub struct Population<'a> {
    layout: &'a Layout,
    namespace: &'static str,
}

impl<'a> Population<'a> {
    /// An empty namespace, after what an earlier run may have left.
    pub fn new(layout: &'a Layout, namespace: &'static str) -> Result<Self> {
        let new = Self { layout, namespace };
        new.remove()?;
        layout.kubectl().args(["create", "namespace", namespace]).quiet()?;
        Ok(new)
    }

    /// Creates `count` sessions under a policy of these rules.
    pub fn launch(&self, count: usize, rules: &Value) -> Result<()> {
        let container = json!({ "name": "main", "image": "simulated" });
        let object = |kind: &str, name: String, spec: Value| json!({ "apiVersion": "berth.dev/v1alpha1", "kind": kind, "metadata": { "name": name, "namespace": self.namespace }, "spec": spec });
        let workspace = json!({
            "type": "web",
            "access": { "protocol": "HTTP", "port": 80 },
            "maxSessions": 10_000,
            "template": { "spec": {
                "nodeSelector": { "type": "kwok" },
                "tolerations": [{ "operator": "Exists" }],
                "containers": [container],
            }},
        });
        let session = |index: usize| {
            let spec = json!({ "workspaceRef": { "name": "desk" }, "user": { "id": format!("user-{index}") } });
            object("Session", format!("session-{index}"), spec)
        };
        let before = [
            object("SessionPolicy", "default".to_owned(), rules.clone()),
            object("Workspace", "desk".to_owned(), workspace),
        ];
        let items: Vec<Value> = before.into_iter().chain((0..count).map(session)).collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        step(&format!("{}: creating {count} sessions", self.namespace), || {
            self.layout.kubectl().args(["create", "-f", "-"]).input(serde_json::to_vec(&list)?).quiet()
        })
    }

    /// Waits until `count` sessions are in this phase.
    pub fn wait_for(&self, phase: &str, count: usize) -> Result<()> {
        let selector = format!("status.phase={phase}");
        step(&format!("{}: until {count} are {phase}", self.namespace), || {
            wait_until("the sessions", PATIENCE, || Ok(self.names(&["--field-selector", &selector])? >= count))
        })
    }

    /// Ends every session, as their users would.
    pub fn end_all(&self) -> Result<()> {
        let names = self.kubectl(&["get", "sessions", "-o", "name"])?;
        let patch = r#"{"spec":{"desiredState":"Disconnected"}}"#;
        step(&format!("{}: ending all", self.namespace), || {
            for batch in names.lines().collect::<Vec<_>>().chunks(200) {
                let args = [&["patch", "--type=merge", "-p", patch], batch].concat();
                self.kubectl(&args)?;
            }
            Ok(())
        })
    }

    /// Waits until the history is gone too.
    pub fn wait_until_none(&self) -> Result<()> {
        wait_until("the history to be pruned", PATIENCE, || Ok(self.names(&[])? == 0))
    }

    /// How late each of `count` ends was, in seconds after its deadline, when it reached a watcher.
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock that deadlines are written by")]
    pub fn lateness(&self, count: usize) -> Result<Vec<f64>> {
        let deadline = "jsonpath={range .items[*]}{.metadata.name} {.status.disconnectAt}{\"\\n\"}{end}";
        let due: std::collections::HashMap<String, f64> = self
            .kubectl(&["get", "sessions", "-o", deadline])?
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, at)| Ok((name.to_owned(), seconds(at)?)))
            .collect::<Result<_>>()?;
        let ended = "jsonpath={.metadata.name} {.status.endedAt}{\"\\n\"}";
        let mut watch = Command::new(self.layout.bin().join("kubectl"));
        watch.env("KUBECONFIG", self.layout.admin());
        watch
            .args(["-n", self.namespace, "get", "sessions", "--watch", "-o", ended])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = Ended(watch.spawn().context("cannot watch the sessions")?);
        let lines = BufReader::new(child.0.stdout.take().context("a watch has an output")?).lines();
        let mut seen = std::collections::HashMap::new();
        for line in lines {
            let line = line?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
            if let Some((name, at)) = line.split_once(' ')
                && !at.is_empty()
                && let Some(due) = due.get(name)
            {
                seen.entry(name.to_owned()).or_insert(now - due);
            }
            if seen.len() >= count {
                break;
            }
        }
        Ok(seen.into_values().collect())
    }

    /// Removes the namespace and waits until it is gone.
    pub fn remove(&self) -> Result<()> {
        step(&format!("{}: removing the namespace", self.namespace), || {
            self.layout
                .kubectl()
                .args(["delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=600s"])
                .quiet()
        })
    }

    fn names(&self, args: &[&str]) -> Result<usize> {
        Ok(self.kubectl(&[&["get", "sessions", "-o", "name"], args].concat())?.lines().count())
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.layout.kubectl().args(["-n", self.namespace]).args(args).output()
    }
}

/// A process that is ended with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An RFC 3339 time as seconds since the epoch, by the machine's own `date`.
fn seconds(time: &str) -> Result<f64> {
    let printed = Command::new("date").args(["--date", time, "+%s"]).output().context("cannot run date")?;
    String::from_utf8_lossy(&printed.stdout).trim().parse().with_context(|| format!("{time:?} is not a time"))
}
