//! Worlds from bytes: objects as others may have written them, and observations that go with them or do not. Owns what
//! can be made; all of it can be read, and much of it nobody should have written.

use std::sync::Arc;

use crate::api::pod::Pod;
use arbitrary::{Error, Result, Unstructured};
use chrono::{DateTime, TimeDelta};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::api::policy::{ActivityRules, ActivitySource};
use crate::api::time::Instant;
use crate::api::{
    MANAGED_BY, MANAGED_BY_LABEL, SESSION_FINALIZER, SESSION_UID_LABEL, Session, WARM_SLOT_LABEL, WORKSPACE_ANNOTATION,
    WORKSPACE_UID_LABEL, Workspace,
};
use crate::plan::activity::Observer;
use crate::plan::admission::{Rival, Rivals};
use crate::plan::child::Child;
use crate::plan::contract::Credential;
use crate::plan::hardening::Hardening;
use crate::plan::name;
use crate::plan::policy::PolicySource;
use crate::plan::session::{Attempt, Draining, Pruner, World};

const DURATIONS: [&str; 10] = ["10s", "1s", "2s", "1m", "90s", "10m", "1h", "8h", "8760h", "60m"];
const PHASES: [&str; 7] = ["Pending", "Starting", "Active", "Idle", "Disconnected", "Terminated", "Failed"];
const REASONS: [&str; 6] =
    ["UserDisconnected", "IdleTimeout", "MaxDuration", "InstanceLost", "WorkspaceDeleted", "SessionDeleted"];
const CONDITIONS: [&str; 11] = [
    "Admitted",
    "Ready",
    "Reconciling",
    "Stalled",
    "ActivityKnown",
    "EndingSoon",
    "LongRunning",
    "PolicyMissing",
    "WorkspaceMissing",
    "NodeDraining",
    "ClockSkew",
];
const WORDS: [&str; 6] = ["SlotGranted", "NoSlot", "VolumesInUse", "ActivityInFuture", "", "Żółć … 非常に長い"];

/// When worlds begin.
pub fn start() -> Instant {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default()
}

/// One of a few words.
///
/// # Errors
/// When there are none.
pub fn word(bytes: &mut Unstructured<'_>, words: &[&'static str]) -> Result<&'static str> {
    bytes.choose(words).copied()
}

/// A time, mostly near to `now`, at times anywhere in the years that the API server takes for a date.
///
/// # Errors
/// Never.
pub fn instant(bytes: &mut Unstructured<'_>, now: Instant) -> Result<Instant> {
    let far = |text: &str| text.parse().unwrap_or(now);
    Ok(match bytes.int_in_range(0u8..=15)? {
        0 => far("0001-01-01T00:00:00Z"),
        1 => far("9997-12-31T23:59:59.999999999Z"),
        2 => now + TimeDelta::milliseconds(bytes.int_in_range(-10_000..=10_000)?),
        3 => now + TimeDelta::days(bytes.int_in_range(-40_000i64..=40_000)?),
        4..=6 => now + TimeDelta::seconds(bytes.int_in_range(-100_000i64..=100_000)?),
        _ => now + TimeDelta::seconds(bytes.int_in_range(-130i64..=130)?),
    })
}

/// What was made is one of its kind: a mistake here is one of this file.
///
/// # Errors
/// Never: it panics before.
///
/// # Panics
/// When it is not.
pub fn read<K: DeserializeOwned>(value: Value) -> Result<K> {
    let read = serde_json::from_value(value.clone());
    assert!(read.is_ok(), "{:?}: {value}", read.err());
    read.map_err(|_| Error::IncorrectFormat)
}

/// A world of a session at `now`.
///
/// # Errors
/// Never.
pub fn world(bytes: &mut Unstructured<'_>, now: Instant) -> Result<World> {
    let mut world = World {
        session: Arc::new(session(bytes, now)?),
        workspace: if bytes.ratio(7u8, 8u8)? { Some(Arc::new(workspace(bytes)?)) } else { None },
        workspace_unread: bytes.ratio(1u8, 16u8)?.then(|| "no such type".to_owned()),
        policy: policy(bytes)?,
        rivals: rivals(bytes, now)?,
        pods: pods(bytes, now)?,
        // The pool comes last.
        warm: None,
        instance_gone: bytes.ratio(1u8, 16u8)?,
        volume_holder: bytes.ratio(1u8, 16u8)?.then(|| "other".to_owned()),
        attempt: attempt(bytes, now)?,
        unguarded: bytes.ratio(1u8, 16u8)?.then(|| "a policy is missing".to_owned()),
        hardening: Arc::default(),
        fence: child(bytes, now)?,
        secret: match bytes.int_in_range(0u8..=7)? {
            0 => Some(Err("it cannot be read".to_owned())),
            1 => Some(Ok(Credential::default())),
            _ => None,
        },
        // A crowd of one's own is tried beside the rules of limits.
        own: Vec::new(),
        // What the gateway prunes is its own affair.
        pruned_by: Pruner::Operator,
        observer: Observer::Unheard,
        draining: match bytes.int_in_range(0u8..=15)? {
            0 => Draining::Yes("it was cordoned".to_owned()),
            1 => Draining::Unknown,
            _ => Draining::No,
        },
    };
    watched(&mut world, bytes, now)?;
    world.warm = warm(world.workspace.as_deref(), bytes)?;
    Ok(world)
}

/// A pod that waits in the pool of `workspace`, if it has one.
fn warm(workspace: Option<&Workspace>, bytes: &mut Unstructured<'_>) -> Result<Option<Arc<Pod>>> {
    let Some(workspace) = workspace.filter(|workspace| workspace.spec.template.is_some()) else { return Ok(None) };
    if bytes.is_empty() || bytes.ratio(1u8, 2u8)? {
        return Ok(None);
    }
    let (name, uid) = (workspace.name_any(), workspace.uid().unwrap_or_default());
    let pod = read(json!({
        "metadata": {
            "name": name::warm_pod(&name, &uid, 0, ""), "namespace": "n", "uid": "warm", "resourceVersion": "7",
            "labels": {WORKSPACE_UID_LABEL: uid, WARM_SLOT_LABEL: "0", MANAGED_BY_LABEL: MANAGED_BY},
            "annotations": {WORKSPACE_ANNOTATION: name},
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }))?;
    Ok(Some(Arc::new(pod)))
}

/// A gateway is asked for the activity, and has said something or not. It comes last, so that inputs that end before mean what
/// they always did.
fn watched(world: &mut World, bytes: &mut Unstructured<'_>, now: Instant) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    world.observer = bytes.choose(&[Observer::Live, Observer::Live, Observer::Gone, Observer::Unheard]).copied()?;
    if let PolicySource::Found(_, spec) = &mut world.policy
        && bytes.ratio(2u8, 3u8)?
    {
        spec.activity = Some(ActivityRules { source: Some(ActivitySource::Gateway) });
    }
    let Some(status) = &mut Arc::make_mut(&mut world.session).status else { return Ok(()) };
    if let Some(rules) = &mut status.policy
        && bytes.ratio(2u8, 3u8)?
    {
        rules.activity_source = Some(ActivitySource::Gateway);
    }
    if bytes.ratio(3u8, 4u8)? {
        let said = status.activity.get_or_insert_default();
        said.observer = Some(read(json!("berth-gateway-0"))?);
        said.observed_since = if bytes.ratio(7u8, 8u8)? { Some(instant(bytes, now)?) } else { None };
        said.observed_until = if bytes.ratio(7u8, 8u8)? { Some(instant(bytes, now)?) } else { None };
    }
    Ok(())
}

/// How an object of a Workspace stands; mostly it does as it should.
///
/// # Errors
/// Never.
pub fn child<K: Default>(bytes: &mut Unstructured<'_>, now: Instant) -> Result<Child<K>> {
    let said = || "exceeded quota".repeat(100);
    Ok(match bytes.int_in_range(0u8..=15)? {
        0 => Child::Unneeded,
        1 => Child::Going,
        2 => Child::Impossible(said()),
        3 => Child::Wanting { object: Box::default(), failed: None },
        4 => Child::Wanting { object: Box::default(), failed: Some((instant(bytes, now)?, said())) },
        5 => Child::Unwanted { name: "berth-box".to_owned(), uid: "u".to_owned() },
        _ => Child::Stands,
    })
}

/// A Session with whatever status.
///
/// # Errors
/// Never.
pub fn session(bytes: &mut Unstructured<'_>, now: Instant) -> Result<Session> {
    let mut spec = json!({"workspaceRef": {"name": "box"}, "user": {"id": word(bytes, &["ana", "bob"])?}});
    if bytes.ratio(1u8, 4u8)? {
        spec["idle"] = json!({"disconnectAfter": duration(bytes)?});
    }
    if bytes.ratio(1u8, 4u8)? {
        spec["keepAliveAt"] = json!(instant(bytes, now)?);
    }
    if bytes.ratio(1u8, 8u8)? {
        spec["desiredState"] = json!(word(bytes, &["Connected", "Disconnected", "Terminated"])?);
    }
    spec["whenFull"] = json!(word(bytes, &["Queue", "Queue", "Queue", "Fail"])?);
    let mut object = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Session", "spec": spec,
        "metadata": {"name": "mine", "namespace": "n", "uid": "s", "generation": 1},
    });
    let created = if bytes.ratio(7u8, 8u8)? { start() } else { instant(bytes, now)? };
    object["metadata"]["creationTimestamp"] = json!(created);
    if bytes.ratio(1u8, 16u8)? {
        object["metadata"]["deletionTimestamp"] = json!(now);
    }
    if bytes.ratio(1u8, 4u8)? {
        object["metadata"]["finalizers"] = json!([word(bytes, &[SESSION_FINALIZER, "example.org/other"])?]);
    }
    if bytes.ratio(1u8, 2u8)? {
        object["status"] = status(bytes, now)?;
    }
    read(object)
}

fn status(bytes: &mut Unstructured<'_>, now: Instant) -> Result<Value> {
    let mut status = Map::new();
    for field in ["startedAt", "readyAt", "idleSince", "disconnectAt"] {
        if bytes.ratio(1u8, 3u8)? {
            status.insert(field.to_owned(), json!(instant(bytes, now)?));
        }
    }
    // What the definition's rules hold together goes together; the rest does not.
    let phase = word(bytes, &PHASES)?;
    status.insert("phase".to_owned(), json!(phase));
    if ["Disconnected", "Terminated", "Failed"].contains(&phase) {
        status.insert("endedAt".to_owned(), json!(instant(bytes, now)?));
    }
    for field in ["reason", "disconnectReason"] {
        if bytes.ratio(1u8, 4u8)? {
            status.insert(field.to_owned(), json!(word(bytes, &REASONS)?));
        }
    }
    if bytes.ratio(1u8, 2u8)? {
        let uid = word(bytes, &["w", "w", "w", "other"])?;
        status.insert("workspace".to_owned(), json!({"uid": uid, "displayName": "Box", "type": "web"}));
    }
    if bytes.ratio(1u8, 2u8)? {
        status.insert("policy".to_owned(), in_force(bytes, now)?);
    }
    if bytes.ratio(1u8, 3u8)? {
        status.insert("instance".to_owned(), json!({"pod": "p", "uid": word(bytes, &["p0", "p1"])?}));
    }
    if bytes.ratio(1u8, 4u8)? {
        status.insert("activity".to_owned(), json!({"lastAt": instant(bytes, now)?}));
    }
    if bytes.ratio(1u8, 12u8)? {
        let (as_, reason) = (word(bytes, &["Disconnected", "Terminated"])?, word(bytes, &REASONS)?);
        status.insert("endRequest".to_owned(), json!({"as": as_, "reason": reason, "actor": WORDS[5]}));
    }
    status.insert("conditions".to_owned(), conditions(bytes, now)?);
    Ok(Value::Object(status))
}

fn conditions(bytes: &mut Unstructured<'_>, now: Instant) -> Result<Value> {
    let mut conditions = Vec::new();
    for type_ in CONDITIONS {
        if bytes.ratio(1u8, 4u8)? {
            let (status, reason) = (word(bytes, &["True", "False", "Unknown"])?, word(bytes, &WORDS)?);
            let since = instant(bytes, now)?;
            conditions.push(json!({
                "type": type_, "status": status, "reason": reason, "message": reason, "lastTransitionTime": since,
            }));
        }
    }
    Ok(json!(conditions))
}

fn duration(bytes: &mut Unstructured<'_>) -> Result<&'static str> {
    word(bytes, &DURATIONS)
}

fn in_force(bytes: &mut Unstructured<'_>, now: Instant) -> Result<Value> {
    let mut rules = json!({"allowKeepAlive": bytes.arbitrary::<bool>()?});
    for field in [
        "idleAfter",
        "warnAfter",
        "disconnectAfter",
        "maxDuration",
        "warnBefore",
        "startTimeout",
        "alertAfter",
        "keepFor",
    ] {
        // Written by hand, or by an older version, it may be none.
        rules[field] = json!(if bytes.ratio(1u8, 64u8)? { "30d" } else { duration(bytes)? });
    }
    for field in ["idleNotBefore", "maxDurationNotBefore", "drainEndsAt"] {
        if bytes.ratio(1u8, 4u8)? {
            rules[field] = json!(instant(bytes, now)?);
        }
    }
    if bytes.ratio(1u8, 2u8)? {
        rules["name"] = json!("p");
        rules["queueTimeout"] = json!(duration(bytes)?);
    }
    Ok(rules)
}

/// A Workspace whose template may be one that may not run.
///
/// # Errors
/// Never.
pub fn workspace(bytes: &mut Unstructured<'_>) -> Result<Workspace> {
    let mut spec = json!({"type": "web", "access": {"protocol": "HTTP", "port": 80}});
    spec["maxSessions"] = json!(bytes.int_in_range(1i32..=3)?);
    spec["maintenance"] = json!(bytes.ratio(1u8, 12u8)?);
    spec["reclaimPolicy"] = json!(word(bytes, &["Retain", "Delete"])?);
    match bytes.int_in_range(0u8..=11)? {
        0 => spec["endpoint"] = json!({"host": "machine.example.org"}),
        1 => spec["template"] = json!({"spec": {"hostNetwork": true, "containers": [{"name": "a", "image": "i"}]}}),
        2 => spec["template"] = json!({"spec": {"containers": [7, "非常に"], "volumes": {}}}),
        3 => {}
        kept => {
            let container = json!({"name": "main", "image": "box"});
            let retention = if kept == 4 { "Retain" } else { "Delete" };
            let claim = json!({"name": "home", "retention": retention, "spec": {}});
            spec["template"] = json!({"spec": {"containers": [container]}, "volumeClaims": [claim]});
        }
    }
    let mut object = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace", "spec": spec,
        "metadata": {"name": "box", "namespace": "n", "uid": word(bytes, &["w", "w", "w", "w2"])?, "generation": 1},
    });
    object["metadata"]["creationTimestamp"] = json!(start());
    if bytes.ratio(1u8, 16u8)? {
        object["metadata"]["deletionTimestamp"] = json!(start());
    }
    let said = word(bytes, &["True", "True", "True", "True", "True", "False", "Unknown"])?;
    object["status"] = json!({"conditions": [{
        "type": "TemplateValid", "status": said, "reason": word(bytes, &["Accepted", "Refused", "Forbidden"])?,
        "message": crate::plan::workspace::accepted(&Hardening::default()), "observedGeneration": bytes.int_in_range(0i64..=7)?.min(1), "lastTransitionTime": start(),
    }]});
    read(object)
}

/// Where a policy comes from, and what it says.
///
/// # Errors
/// Never.
pub fn policy(bytes: &mut Unstructured<'_>) -> Result<PolicySource> {
    Ok(match bytes.int_in_range(0u8..=9)? {
        0 => PolicySource::Missing("p".to_owned()),
        1 => PolicySource::Unreadable("p".to_owned(), "no number".to_owned()),
        2 => PolicySource::Unknown,
        3..=5 => PolicySource::BuiltIn,
        _ => {
            let mut idle = json!({"allowKeepAlive": bytes.arbitrary::<bool>()?});
            for field in ["after", "warnAfter", "disconnectAfter", "userMax"] {
                if bytes.ratio(1u8, 3u8)? {
                    idle[field] = json!(duration(bytes)?);
                }
            }
            let mut spec = json!({"idle": idle});
            for field in ["maxDuration", "warnBefore", "startTimeout", "queueTimeout", "alertAfter"] {
                if bytes.ratio(1u8, 3u8)? {
                    spec[field] = json!(duration(bytes)?);
                }
            }
            spec["history"] = json!({"keepFor": duration(bytes)?});
            PolicySource::Found("p".to_owned(), read(spec)?)
        }
    })
}

/// Who else wants a slot.
///
/// # Errors
/// Never.
pub fn rivals(bytes: &mut Unstructured<'_>, now: Instant) -> Result<Rivals> {
    let mut rivals = Rivals::default();
    for number in 0..bytes.int_in_range(0u8..=7)?.saturating_sub(4) {
        let created = instant(bytes, now)?;
        let user = word(bytes, &["ana", "bob"])?.to_owned();
        let holds: bool = bytes.arbitrary()?;
        let rival = Rival { created, uid: format!("r{number}"), user, aside: bytes.arbitrary()? };
        if holds {
            rivals.holding += 1;
            rivals.holders.insert(rival.user);
        } else {
            rivals.waiting.push(rival);
        }
    }
    Ok(rivals)
}

/// What became of the last attempt.
///
/// # Errors
/// Never.
pub fn attempt(bytes: &mut Unstructured<'_>, now: Instant) -> Result<Attempt> {
    Ok(match bytes.int_in_range(0u8..=15)? {
        0 => Attempt::Refused(WORDS[5].repeat(200)),
        1 => Attempt::Reached(Box::default()),
        2 => Attempt::RetryAt(instant(bytes, now)?, "quota exceeded".to_owned()),
        _ => Attempt::None,
    })
}

fn pods(bytes: &mut Unstructured<'_>, now: Instant) -> Result<Vec<Arc<Pod>>> {
    let count = [0usize, 0, 0, 0, 1, 1, 1, 2][bytes.int_in_range(0usize..=7)?];
    (0..count).map(|number| Ok(Arc::new(pod(bytes, number, now)?))).collect()
}

fn pod(bytes: &mut Unstructured<'_>, number: usize, now: Instant) -> Result<Pod> {
    let mut pod = json!({
        "metadata": {"name": format!("p{number}"), "namespace": "n", "uid": format!("p{number}"),
            "labels": {SESSION_UID_LABEL: "s", MANAGED_BY_LABEL: MANAGED_BY}},
        "status": pod_status(bytes, now)?,
    });
    if bytes.ratio(1u8, 6u8)? {
        pod["metadata"]["deletionTimestamp"] = json!(now);
    }
    read(pod)
}

/// What a pod may say of itself.
///
/// # Errors
/// Never.
pub fn pod_status(bytes: &mut Unstructured<'_>, now: Instant) -> Result<Value> {
    let state = match bytes.int_in_range(0u8..=4)? {
        0 => json!({"waiting": {"reason": word(bytes, &["ContainerCreating", "CrashLoopBackOff", "ErrImagePull"])?}}),
        1 => json!({"terminated": {"exitCode": bytes.int_in_range(0i32..=2)?, "reason": "Error"}}),
        2 => json!({"waiting": {"reason": "", "message": "非常に長い".repeat(300)}}),
        3 => json!({}),
        _ => json!({"running": {"startedAt": now}}),
    };
    let ready = word(bytes, &["True", "False", "Unknown"])?;
    Ok(json!({
        "phase": word(bytes, &["Running", "Running", "Pending", "Failed", "Succeeded", "Unknown"])?,
        "podIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}],
        "containerStatuses": [{"name": "main", "image": "", "imageID": "", "restartCount": 0,
            "ready": bytes.arbitrary::<bool>()?, "state": state}],
    }))
}
