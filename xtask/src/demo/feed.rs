//! Sessions as they change: one `kubectl get sessions --watch`, from which rows are printed and questions answered.
//! Owns the watch and what it has shown so far; not what ought to be true.

use super::say::Say;
use crate::cluster::Layout;
use crate::run::Background;
use anyhow::{Context, Result, bail};
use serde_json::{Deserializer, Value};
use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::process::{ChildStderr, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The sessions of one namespace, as they change.
pub struct Feed {
    changes: Receiver<Result<Value, String>>,
    sessions: BTreeMap<String, Value>,
    rows: BTreeMap<String, String>,
    say: Say,
    _watch: Background,
}

impl Feed {
    /// Begins to watch.
    pub fn start(layout: &Layout, namespace: &str, say: Say) -> Result<Self> {
        let args = ["get", "sessions", "-n", namespace, "--watch", "--output-watch-events", "-o", "json"];
        let mut watch = layout.kubectl().args(args).spawn()?;
        let (stdout, stderr) = watch.pipes().context("kubectl has no output")?;
        let (sender, changes) = channel();
        std::thread::spawn(move || read(stdout, stderr, &sender));
        Ok(Self { changes, sessions: BTreeMap::new(), rows: BTreeMap::new(), say, _watch: watch })
    }

    /// The head of the rows.
    pub fn head(&self) {
        self.say.head(&row("NAME", "PHASE", "UNTIL", "REASON", "MESSAGE"));
    }

    /// A session as it was last seen.
    pub fn session(&self, name: &str) -> Option<&Value> {
        self.sessions.get(name)
    }

    /// Takes one change, if there is one within `wait`; whether there was. One at a time, so that no state in
    /// between is missed.
    pub fn next(&mut self, wait: Duration) -> Result<bool> {
        match self.changes.recv_timeout(wait) {
            Ok(Ok(event)) => {
                self.take(&event);
                Ok(true)
            }
            Ok(Err(why)) => bail!("the watch of sessions ended: {why}"),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => bail!("the watch of sessions ended"),
        }
    }

    fn take(&mut self, event: &Value) {
        let object = &event["object"];
        let Some(name) = object["metadata"]["name"].as_str() else { return };
        if event["type"] == "DELETED" {
            self.sessions.remove(name);
            self.rows.remove(name);
            return;
        }
        let status = &object["status"];
        let text = |field: &str| status[field].as_str().unwrap_or_default();
        let phase = text("phase");
        if !phase.is_empty() {
            // A date repeats the day that it is; the time alone can be compared at a glance.
            let until = text("disconnectAt").split('T').nth(1).unwrap_or_default();
            let row = row(name, phase, until, text("reason"), text("message"));
            if self.rows.get(name) != Some(&row) {
                self.say.row(&row, phase);
                self.rows.insert(name.to_owned(), row);
            }
        }
        self.sessions.insert(name.to_owned(), object.clone());
    }
}

fn row(name: &str, phase: &str, until: &str, reason: &str, message: &str) -> String {
    format!("{name:<22} {phase:<13} {until:<10} {reason:<19} {message}")
}

/// Whether a condition of an object is True.
pub fn is_true(object: &Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == condition && c["status"] == "True")
}

fn read(stdout: ChildStdout, mut stderr: ChildStderr, changes: &Sender<Result<Value, String>>) {
    for event in Deserializer::from_reader(BufReader::new(stdout)).into_iter::<Value>() {
        let last = event.is_err();
        if changes.send(event.map_err(|error| error.to_string())).is_err() || last {
            return;
        }
    }
    let mut words = String::new();
    let _ = stderr.read_to_string(&mut words);
    let _ = changes.send(Err(words.trim().to_owned()));
}
