//! The doctor's verdicts over facts made by hand.

use chrono::DateTime;
use serde_json::json;

use super::*;
use crate::cli::view::tests::{second, session};
use crate::install;

fn here() -> Scope {
    Scope::Namespace("demo".to_owned())
}

fn refused() -> Failure {
    Failure::new(Exit::Refused, "forbidden: you may not").next("ask")
}

#[test]
fn a_check_that_may_not_be_made_is_a_warning_and_one_that_fails_a_failure() {
    assert_eq!(storage(Err(refused())).verdict, Verdict::Warning);
    let broken = storage(Err(Failure::new(Exit::Failed, "no answer")));
    assert_eq!((broken.verdict, broken.message.as_str()), (Verdict::Failed, "not checked: no answer"));
    assert_eq!(server(&Err(refused())).verdict, Verdict::Failed, "without the API server nothing works");
}

#[test]
fn kubernetes_must_be_new_enough() {
    let of = |version| Server { version, git_version: String::new(), ahead: TimeDelta::zero() };
    assert_eq!(server(&Ok(of((1, 32)))).verdict, Verdict::Failed);
    assert_eq!(server(&Ok(of((1, 33)))).verdict, Verdict::Ok);
    assert_eq!(server(&Ok(of((2, 0)))).verdict, Verdict::Ok);
}

#[test]
fn clocks_may_differ_by_five_seconds() {
    assert_eq!(clock(TimeDelta::seconds(-5)).verdict, Verdict::Ok);
    let late = clock(TimeDelta::seconds(-61));
    assert_eq!(late.verdict, Verdict::Warning);
    assert!(late.message.contains("61s behind"), "{}", late.message);
}

#[test]
fn definitions_must_be_there_served_and_as_new() {
    let mut crds = install::crds();
    let (_, ours) = crds.remove(0);
    let standing = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut theirs = serde_json::to_value(&ours).unwrap();
        theirs["status"] = json!({ "conditions": [{ "type": "Established", "status": "True" }] });
        change(&mut theirs);
        let theirs = Some(Box::new(serde_json::from_value(theirs).unwrap()));
        definition(&Definition { name: "x".to_owned(), ours: Box::new(ours.clone()), theirs })
    };
    let fields = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    assert_eq!(standing(&|_| ()).verdict, Verdict::Ok);
    let older = standing(&|crd| drop(crd.pointer_mut(fields).unwrap().as_object_mut().unwrap().remove("maxDuration")));
    assert!(older.verdict == Verdict::Failed && older.message.contains("spec.maxDuration"), "{older:?}");
    let newer = standing(&|crd| crd.pointer_mut(fields).unwrap()["novel"] = json!({ "type": "string" }));
    assert!(newer.verdict == Verdict::Warning && newer.message.contains("spec.novel"), "{newer:?}");
    assert_eq!(standing(&|crd| crd["status"]["conditions"] = json!([])).verdict, Verdict::Failed);
    assert_eq!(standing(&|crd| crd["spec"]["versions"][0]["served"] = json!(false)).verdict, Verdict::Failed);
    let missing = Definition { name: "x".to_owned(), ours: Box::new(ours.clone()), theirs: None };
    let all = definitions(Ok(Definitions::Read(vec![missing])));
    assert!(all.verdict == Verdict::Failed && all.mend.is_some());
    let served = |names: &[&str]| definitions(Ok(Definitions::Served(names.iter().map(ToString::to_string).collect())));
    assert_eq!(served(&["sessions", "workspaces", "sessionpolicies", "sessions/status"]).verdict, Verdict::Ok);
    assert_eq!(served(&["sessions"]).verdict, Verdict::Failed);
}

#[test]
fn operators_must_be_ready_and_of_this_version() {
    let of = |ready, wanted, image: &str, version: Option<&str>| {
        let (image, version) = (image.to_owned(), version.map(ToOwned::to_owned));
        operator(&Operator { namespace: "berth-system".to_owned(), ready, wanted, image, version }, "0.2.0").verdict
    };
    assert_eq!(of(1, 1, "berth:0.2.0", None), Verdict::Ok);
    assert_eq!(of(1, 1, "berth:dev", None), Verdict::Ok, "a tag that is no version says nothing");
    assert_eq!(of(1, 1, "berth:v0.1.0@sha256:0", None), Verdict::Warning);
    assert_eq!(of(1, 1, "berth:dev", Some("0.3.0")), Verdict::Warning);
    assert_eq!(of(1, 2, "berth:0.2.0", None), Verdict::Warning);
    assert_eq!(of(0, 2, "berth:0.2.0", None), Verdict::Failed);
    assert_eq!(of(0, 0, "berth:0.2.0", None), Verdict::Failed);
    assert_eq!(operators(Ok(Vec::new())).verdict, Verdict::Failed);
    assert_eq!(tagged("registry:5000/berth"), None);
    assert_eq!(tagged("registry:5000/berth:1.2.3-rc.1").as_deref(), Some("1.2.3-rc.1"));
}

#[test]
fn a_lease_is_held_renewed_and_not_from_the_future() {
    let of = |holder: &str, renewed: i64| -> Option<Lease> {
        let at = DateTime::from_timestamp(renewed, 0).unwrap().format("%FT%T.000000Z").to_string();
        let spec = json!({ "holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": at });
        Some(serde_json::from_value(json!({ "metadata": { "name": "berth-operator" }, "spec": spec })).unwrap())
    };
    let now = second(1000);
    for (one, verdict) in [
        (of("a", 996), Verdict::Ok),
        (of("a", 1005), Verdict::Ok),
        (of("a", 984), Verdict::Failed),
        (of("a", 1006), Verdict::Failed),
        (of("", 1000), Verdict::Failed),
        (None, Verdict::Failed),
    ] {
        assert_eq!(lease("berth-system", &one, now).verdict, verdict, "{one:?}");
    }
}

#[test]
fn missing_permissions_warn_and_none_at_all_fails() {
    assert_eq!(permissions(Ok(Vec::new()), &here()).verdict, Verdict::Ok);
    let some = permissions(Ok(vec![("patch", "sessions")]), &here());
    assert!(some.verdict == Verdict::Warning && some.message.contains("patch sessions"), "{some:?}");
    assert_eq!(permissions(Ok(NEEDED.to_vec()), &here()).verdict, Verdict::Failed);
}

#[test]
fn one_storage_class_is_the_default() {
    let of = |flags: &[bool]| storage(Ok(flags.iter().map(|flag| ("c".to_owned(), *flag)).collect())).verdict;
    assert_eq!(
        [of(&[true, false]), of(&[]), of(&[false]), of(&[true, true])],
        [Verdict::Ok, Verdict::Warning, Verdict::Warning, Verdict::Warning]
    );
}

#[test]
fn a_workspace_that_cannot_be_launched_is_named_with_its_cause() {
    let of = |status: Value| -> Workspace {
        serde_json::from_value(json!({
            "metadata": { "name": "box", "namespace": "demo", "creationTimestamp": second(1000).to_rfc3339() },
            "spec": { "type": "web", "access": { "protocol": "HTTP", "port": 80 }, "endpoint": { "host": "h" } },
            "status": status,
        }))
        .unwrap()
    };
    let ready = json!([{
        "type": "Ready", "status": "False", "reason": "x", "message": "the image is missing",
        "lastTransitionTime": second(1000).to_rfc3339(),
    }]);
    let judged = |status: Value, at: i64| workspaces(Ok(vec![of(status)]), &here(), second(at));
    let broken = judged(json!({ "phase": "Unavailable", "conditions": ready }), 1000);
    assert_eq!((broken.verdict, broken.message.as_str()), (Verdict::Failed, "box: the image is missing"));
    assert_eq!(broken.mend.unwrap().split(';').next(), Some("kubectl describe workspace box --namespace demo"));
    assert_eq!(judged(json!({ "phase": "InUse" }), 9000).verdict, Verdict::Ok);
    assert_eq!(judged(json!({}), 1060).verdict, Verdict::Ok, "it is new");
    assert_eq!(judged(json!({}), 1061).verdict, Verdict::Failed);
}

#[test]
fn a_session_is_stuck_when_what_is_due_has_not_happened() {
    let policy = json!({
        "idleAfter": "5m", "warnAfter": "10m", "disconnectAfter": "30m", "allowKeepAlive": true, "maxDuration": "8h",
        "warnBefore": "10m", "startTimeout": "5m", "queueTimeout": "1h", "alertAfter": "4h", "keepFor": "24h",
    });
    let admitted = json!([{
        "type": "Admitted", "status": "True", "reason": "x", "message": "", "lastTransitionTime": second(2000).to_rfc3339(),
    }]);
    let starting = json!({ "phase": "Starting", "policy": policy, "conditions": admitted, "message": "pulling" });
    let pending = json!({ "phase": "Pending", "policy": policy });
    let due = json!({ "phase": "Idle", "disconnectAt": second(2000).to_rfc3339() });
    let ended = json!({ "phase": "Failed", "endedAt": second(2000).to_rfc3339() });
    for (status, at, is_stuck) in [
        (json!({}), 1060, false),
        (json!({}), 1061, true),
        (starting.clone(), 2360, false),
        (starting, 2361, true),
        (pending.clone(), 1000 + 3660, false),
        (pending, 1000 + 3661, true),
        (due.clone(), 2060, false),
        (due, 2061, true),
        (ended, 9999, false),
        (json!({ "phase": "Active" }), 999_999, false),
    ] {
        assert_eq!(stuck(&session("a", status.clone()), second(at)).is_some(), is_stuck, "{status} at {at}");
    }
    let mut going = session("a", json!({ "phase": "Active" }));
    going.metadata.deletion_timestamp = Some(serde_json::from_value(json!(second(2000).to_rfc3339())).unwrap());
    assert!(stuck(&going, second(2061)).is_some());
}
