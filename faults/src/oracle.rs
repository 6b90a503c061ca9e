//! What is held against a plan: the properties that trials have too, what only a proxy can see, and the end that the same
//! workload comes to without faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use berth_simulation::apiserver::call::Call;
use berth_simulation::apiserver::log::Entry;
use berth_simulation::trial::properties::{Broken, History, safety};
use serde_json::{Value, json};

use crate::plan::{Action, Plan, counts};

/// How many writes a session's life may take where nothing befalls it: its slot, marks, volume, pod, phases, warning, end and
/// release, and what its pod says of itself while it starts.
const BUDGET: usize = 14;
/// So many refusals about one object within a second are of somebody who does not wait longer each time.
const HASTE: usize = 8;

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
    lines.push(format!("NetworkPolicies: {}", history.objects("networkpolicies.networking.k8s.io").len()));
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
    in_haste(entries, broken);
    if plan.action == Action::Nothing {
        let about_sessions = |entry: &&Entry| {
            entry.call.is_write
                && ["sessions", "pods", "persistentvolumeclaims"].contains(&entry.call.kind.plural.as_str())
        };
        let count = entries.iter().filter(about_sessions).count();
        if count > BUDGET * sessions {
            broken.note(format!("{count} writes for {sessions} sessions: at most {BUDGET} for each"));
        }
    }
}

/// Whoever is refused waits longer each time.
fn in_haste(entries: &[Entry], broken: &mut Broken) {
    let mut refusals: BTreeMap<(&str, &str, &str), Vec<&Entry>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.code >= 400 && !entry.call.name.is_empty()) {
        let call = &entry.call;
        refusals.entry((&call.who, &call.kind.plural, &call.name)).or_default().push(entry);
    }
    for refusals in refusals.values() {
        let mut windows = refusals.windows(HASTE).filter_map(|window| window.first().zip(window.last()));
        if let Some((first, _)) = windows.find(|(first, last)| last.call.at - first.call.at < Duration::from_secs(1)) {
            broken.note(format!("{HASTE} refusals about one object within a second, the first of them: {first}"));
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

#[cfg(test)]
mod tests {
    use berth_simulation::apiserver::kinds::Kinds;
    use bytes::Bytes;
    use http::Request;

    use super::*;

    /// What is held against one delete of a pod.
    fn held_against(plan: &str, namespace: &str, at: u64, former: Option<(String, Duration)>) -> Vec<String> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/mine");
        let body = Bytes::from(json!({ "preconditions": { "uid": "u" } }).to_string());
        let request = Request::delete(path).body(body).unwrap();
        let call = Call::read(&Kinds::default(), "operator-a#1", Duration::from_secs(at), &request).unwrap();
        let entry = Entry { call, code: 200, reason: String::new(), revision: 1, changed: true };
        let entries = std::iter::repeat_n(entry, BUDGET + 1);
        let now = berth::clock::Clock::system().now();
        let history = History { changes: Vec::new(), log: entries.collect(), now };
        let plan = plan.parse().unwrap();
        let namespaces = ["mine".to_owned()];
        let evidence = Evidence { plan: &plan, history: &history, namespaces: &namespaces, former, sessions: 1 };
        let mut broken = Broken::default();
        judge(&evidence, &mut broken);
        broken.into_sentences()
    }

    #[test]
    fn a_write_elsewhere_is_noticed() {
        assert!(held_against("idle/twice/1", "mine", 9, None).is_empty());
        let noticed = held_against("idle/twice/1", "elsewhere", 9, None);
        assert!(noticed[0].starts_with("a write in a namespace that is none of the operator's"), "{noticed:?}");
    }

    #[test]
    fn a_write_by_who_was_stopped_past_its_lease_is_noticed() {
        let stopped = |who: &str| Some((who.to_owned(), Duration::from_secs(1)));
        let noticed = held_against("idle/stopped/1", "mine", 30, stopped("operator-a#1"));
        assert!(noticed[0].starts_with("a write by a former leader"), "{noticed:?}");
        assert!(held_against("idle/stopped/1", "mine", 2, stopped("operator-a#1")).is_empty(), "it was on its way");
        assert!(held_against("idle/stopped/1", "mine", 30, stopped("operator-a#0")).is_empty());
    }

    #[test]
    fn a_life_that_takes_too_many_writes_is_noticed() {
        assert_eq!(held_against("idle/nothing/0", "mine", 9, None), ["15 writes for 1 sessions: at most 14 for each"]);
    }

    #[test]
    fn who_is_refused_and_does_not_wait_is_noticed() {
        let refused = |pause: u64| {
            let entry = |index: u64| {
                let request = Request::get("/api/v1/namespaces/mine/pods/mine").body(Bytes::new()).unwrap();
                let at = Duration::from_millis(index * pause);
                let call = Call::read(&Kinds::default(), "operator-a#1", at, &request).unwrap();
                Entry { call, code: 500, reason: String::new(), revision: 0, changed: false }
            };
            let entries: Vec<Entry> = (0..10).map(entry).collect();
            let mut broken = Broken::default();
            in_haste(&entries, &mut broken);
            broken.into_sentences()
        };
        assert_eq!(refused(100).len(), 1);
        assert!(refused(200).is_empty());
    }

    #[test]
    fn an_end_that_differs_is_noticed_in_both_directions() {
        let picture = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Picture>();
        let mut broken = Broken::default();
        compare(&picture(&["a", "c"]), &picture(&["a", "b"]), &mut broken);
        assert_eq!(broken.into_sentences(), ["without faults there is in the end: b", "and here: c"]);
        let mut broken = Broken::default();
        compare(&picture(&["a"]), &picture(&["a"]), &mut broken);
        assert!(broken.into_sentences().is_empty());
    }
}
