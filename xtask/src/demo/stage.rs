//! The stage: what every act needs to launch, to wait, to ask the cluster and to check what it says.
//!
//! Owns how a claim is checked and what is shown when it is untrue. Does not own the story.

use super::feed::Feed;
use super::say::Say;
use crate::cluster::Layout;
use crate::install;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The demo's organization.
pub const NAMESPACE: &str = "demo";
/// How long anything may take: generous, for machines that are slow or busy. Nothing is timed here.
const PATIENCE: Duration = Duration::from_secs(180);
/// What instances are known by.
pub const INSTANCES: &str = "--selector=app.kubernetes.io/managed-by=berth";

/// What every act needs.
pub struct Stage<'a> {
    /// The cluster.
    pub layout: &'a Layout,
    /// The printer.
    pub say: Say,
    /// Whether evidence is looked for that a person would not look for.
    pub check: bool,
    /// The repository's folder.
    pub root: PathBuf,
    /// The sessions as they change.
    pub feed: Feed,
}

/// What one look at the cluster says of a claim.
pub enum Seen {
    /// It is true.
    True,
    /// It is not, or not yet; this was there instead.
    Instead(String),
}

impl Seen {
    /// True if the claim is; else what was there instead.
    pub fn of(claim: bool, instead: impl std::fmt::Display) -> Self {
        if claim { Self::True } else { Self::Instead(instead.to_string()) }
    }
}

impl Stage<'_> {
    /// Asks kubectl; returns what it printed.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.layout.kubectl().dir(&self.root).args(args).output()
    }

    /// Says a command and runs it.
    pub fn shown(&self, args: &[&str]) -> Result<String> {
        self.say.command(&format!("kubectl {}", args.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ")));
        self.kubectl(args)
    }

    /// Asks for one kind of objects in the demo's namespace.
    pub fn list(&self, kind: &str, more: &[&str]) -> Result<Vec<Value>> {
        let text = self.kubectl(&[&["get", kind, "-n", NAMESPACE, "-o", "json"], more].concat())?;
        let mut list: Value =
            serde_json::from_str(&text).with_context(|| format!("kubectl get {kind}: {text:.200}"))?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Launches what a file in `examples/sessions/` asks for; the new session's name.
    pub fn launch(&mut self, file: &str) -> Result<String> {
        let path = format!("examples/sessions/{file}.yaml");
        self.say.command(&format!("kubectl create -f {path}"));
        let text = self.kubectl(&["create", "-f", &path, "-o", "json"])?;
        let session: Value = serde_json::from_str(&text)?;
        let name = session["metadata"]["name"].as_str().context("the API server made a session without a name")?;
        let name = name.to_owned();
        self.until(&name, None, |_| true)?;
        Ok(name)
    }

    /// Asks for an end, by hand.
    pub fn end(&mut self, session: &str, desired: &str) -> Result<()> {
        let patch = format!(r#"{{"spec":{{"desiredState":"{desired}"}}}}"#);
        self.shown(&["patch", "session", "-n", NAMESPACE, session, "--type=merge", "-p", &patch]).map(drop)
    }

    /// Waits until a session is as claimed, and returns it. One that has ended otherwise is not waited for.
    pub fn until(&mut self, name: &str, claim: Option<&str>, test: impl Fn(&Value) -> bool) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let seen = self.feed.session(name);
            if let Some(session) = seen.filter(|session| test(session)) {
                if let Some(claim) = claim {
                    self.say.truth(&format!("{name} {claim}"));
                }
                return Ok(session.clone());
            }
            let over = seen.is_some_and(|session| !session["status"]["endedAt"].is_null());
            if over || begun.elapsed() > PATIENCE {
                let status = seen.map_or_else(|| "no such session".to_owned(), |s| format!("{:#}", s["status"]));
                bail!("untrue: {name} {}\nseen: {status}", claim.unwrap_or("is there"));
            }
            self.feed.next(Duration::from_millis(200))?;
        }
    }

    /// Looks again and again until a claim is true.
    pub fn holds(&mut self, claim: &str, mut look: impl FnMut(&Self) -> Result<Seen>) -> Result<()> {
        let begun = Instant::now();
        loop {
            let instead = match look(self)? {
                Seen::True => {
                    self.say.truth(claim);
                    return Ok(());
                }
                Seen::Instead(instead) => instead,
            };
            ensure!(begun.elapsed() < PATIENCE, "untrue: {claim}\nseen: {instead}");
            let wait = Instant::now() + Duration::from_millis(200);
            while self.feed.next(wait.saturating_duration_since(Instant::now()))? {}
        }
    }

    /// The same where evidence was asked for.
    pub fn evidence(&mut self, claim: &str, look: impl FnMut(&Self) -> Result<Seen>) -> Result<()> {
        if self.check { self.holds(claim, look) } else { Ok(()) }
    }

    /// By what the gateway proves itself to a session's instance: a file of its Workspace's Secret.
    pub fn credential(&self, session: &Value, file: &str) -> Result<String> {
        let of_workspace = format!("--selector=berth.dev/workspace-uid={}", text(session, "/status/workspace/uid"));
        let show = format!(r#"go-template={{{{range .items}}}}{{{{index .data "{file}" | base64decode}}}}{{{{end}}}}"#);
        self.kubectl(&["get", "secrets", "-n", NAMESPACE, &of_workspace, "-o", &show])
    }

    /// The pods of one session.
    pub fn pods_of(&self, session: &Value) -> Result<Vec<Value>> {
        let selector = format!("--selector=berth.dev/session-uid={}", text(session, "/metadata/uid"));
        self.list("pods", &[&selector])
    }

    /// That a session's pod is gone from the API server.
    pub fn released(&mut self, session: &Value) -> Result<()> {
        let claim = format!("no pod of {} is left", text(session, "/metadata/name"));
        self.holds(&claim, |stage| {
            let pods = stage.pods_of(session)?;
            Ok(Seen::of(pods.is_empty(), names(&pods)))
        })
    }

    /// That an event of this reason was told about an object.
    pub fn told(&mut self, object: &Value, reason: &str) -> Result<()> {
        let claim = format!("{} has an event {reason}", text(object, "/metadata/name"));
        self.evidence(&claim, |stage| {
            let about = format!("--field-selector=involvedObject.uid={}", text(object, "/metadata/uid"));
            let events = stage.list("events", &[&about])?;
            let reasons: Vec<_> = events.iter().map(|event| text(event, "/reason")).collect();
            Ok(Seen::of(reasons.contains(&reason), format!("events {reasons:?}")))
        })
    }

    /// Prints a table that kubectl makes, under the command that makes it.
    pub fn table(&self, args: &[&str]) -> Result<()> {
        let table = self.shown(args)?;
        self.say.table(&table);
        Ok(())
    }

    /// Shows what there is, for a person who has to find out why something is untrue.
    pub fn diagnose(&self) {
        self.say.heading("what there is");
        let deployment = format!("deployment/{}", install::OPERATOR);
        for args in [
            &["get", "sessions,workspaces,pods", "-n", NAMESPACE, "-o", "wide"][..],
            &["get", "events", "-n", NAMESPACE, "--sort-by=.metadata.creationTimestamp"],
            &["logs", "-n", install::NAMESPACE, &deployment, "--tail=30"],
        ] {
            match self.shown(args) {
                Ok(printed) => {
                    let lines: Vec<_> = printed.lines().collect();
                    eprintln!("{}\n", lines[lines.len().saturating_sub(40)..].join("\n"));
                }
                Err(error) => eprintln!("{error:#}"),
            }
        }
    }
}

/// The text at a place in an object, or nothing.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The names of objects, for people.
pub fn names(objects: &[Value]) -> String {
    objects.iter().map(|object| text(object, "/metadata/name")).collect::<Vec<_>>().join(", ")
}

/// An argument as one types it into a shell.
fn quoted(arg: &str) -> String {
    if arg.contains(['{', '"', ' ', '*']) { format!("'{arg}'") } else { arg.to_owned() }
}
