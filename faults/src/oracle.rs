//! What is held against a plan: the properties that trials have too, what only a proxy can see, and the end that the same
//! workload comes to without faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use berth_simulation::apiserver::call::Call;
use berth_simulation::apiserver::log::Entry;
use berth_simulation::trial::properties::{Broken, History, safety};
use serde_json::{Value, json};

use crate::plan::{Action, Plan, counts};

/// How many writes a session's life may take where nothing befalls it.
const BUDGET: usize = 10;
/// And how many more with a volume that is made for it: the claim, and what the pod says of itself while it waits.
const BUDGET_OF_A_CLAIM: usize = 4;

/// What stands at the end, without what differs from run to run: uids, revisions, times, and which of two was first.
pub type Picture = Vec<String>;

/// The picture of what stands.
pub fn picture(history: &History) -> Picture {
    let pods = history.objects("pods");
    let mut lines = Vec::new();
    for session in history.objects("sessions.berth.dev") {
        let uid = &session["metadata"]["uid"];
        let owns = |pod: &&std::sync::Arc<Value>| pod["metadata"]["ownerReferences"][0]["uid"] == *uid;
        let status = &session["status"];
        lines.push(format!(
            "Session: {}",
            json!({
                "phase": status["phase"], "reason": status["reason"], "ended": status["endedAt"].is_string(),
                "conditions": conditions(status), "finalizers": session["metadata"]["finalizers"],
                "pods": pods.iter().filter(owns).count(),
            })
        ));
    }
    for workspace in history.objects("workspaces.berth.dev") {
        let status = &workspace["status"];
        lines.push(format!(
            "Workspace: {}",
            json!({
                "phase": status["phase"], "activeSessions": status["activeSessions"], "conditions": conditions(status),
            })
        ));
    }
    lines.push(format!("Claims: {}", history.objects("persistentvolumeclaims").len()));
    lines.sort();
    lines
}

fn conditions(status: &Value) -> BTreeMap<&str, (&Value, &Value)> {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.filter_map(|it| Some((it["type"].as_str()?, (&it["status"], &it["reason"])))).collect()
}

/// What happened in a plan.
pub struct Evidence<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Everything that happened, and was asked.
    pub history: &'a History,
    /// The namespace of the sessions, and those of leases.
    pub namespaces: &'a [String],
    /// A process that was stopped past its lease, and when.
    pub former: Option<(String, Duration)>,
    /// How many sessions were launched.
    pub sessions: usize,
}

/// Holds the whole history against what must never be.
pub fn judge(evidence: &Evidence<'_>, broken: &mut Broken) {
    let Evidence { plan, history, namespaces, former, sessions } = evidence;
    if plan.action == Action::TwoLeaders {
        // Each holds a lease of its own, and both may write.
        let changes = history.changes.iter().filter(|change| change.key.resource != "leases.coordination.k8s.io");
        let history = History { changes: changes.cloned().collect(), log: history.log.clone(), now: history.now };
        safety(&history, broken);
    } else {
        safety(history, broken);
    }
    let entries = history.log.entries();
    let known: BTreeSet<&str> = namespaces.iter().map(String::as_str).collect();
    for entry in entries.iter().filter(|entry| entry.call.is_write && !known.contains(entry.call.namespace.as_str())) {
        broken.note(format!("a write in a namespace that is none of the operator's: {entry}"));
    }
    if let Some((who, at)) = former {
        for entry in entries.iter().filter(|entry| follows(&entry.call, who, *at)) {
            broken.note(format!("a write by a former leader, who was stopped at {at:?}: {entry}"));
        }
    }
    if plan.action == Action::Nothing {
        let about_sessions = |entry: &&Entry| {
            entry.call.is_write
                && ["sessions", "pods", "persistentvolumeclaims"].contains(&entry.call.kind.plural.as_str())
        };
        let count = entries.iter().filter(about_sessions).count();
        let claims = history.objects("persistentvolumeclaims").len();
        let most = BUDGET * sessions + BUDGET_OF_A_CLAIM * claims;
        if count > most {
            broken.note(format!("{count} writes for {sessions} sessions and {claims} claims: at most {most}"));
        }
    }
}

/// How long after a process was stopped something that it had sent before may arrive. It is stopped for far longer.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// Whether this is a write that a leader sent after its time. Events are told by whoever saw something.
fn follows(call: &Call, who: &str, at: Duration) -> bool {
    call.who == who && call.at > at + ON_ITS_WAY && counts(call)
}

/// Holds the end against the one without faults.
pub fn compare(now: &Picture, undisturbed: &Picture, broken: &mut Broken) {
    for line in undisturbed.iter().filter(|line| !now.contains(line)) {
        broken.note(format!("without faults there is in the end: {line}"));
    }
    for line in now.iter().filter(|line| !undisturbed.contains(line)) {
        broken.note(format!("and here: {line}"));
    }
}
