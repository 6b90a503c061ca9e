//! What the people do in each workload, and what they wait for. Owns the scripts: they know nothing of faults.

use std::sync::Arc;

use anyhow::Result;
use berth::api::SESSION_UID_LABEL;
use serde_json::{Value, json};

use crate::plan::Workload;
use crate::stage::Stage;

/// A pod template for simulated nodes.
fn template(more: Value) -> Value {
    let mut spec = json!({
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{ "operator": "Exists" }],
        "containers": [{ "name": "main", "image": "simulated:1" }],
    });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    json!({ "spec": spec })
}

fn workspace(template: Value, most: u32) -> Value {
    json!({ "type": "web", "access": { "protocol": "HTTP", "port": 8080 }, "template": template, "maxSessions": most })
}

async fn offer(stage: &Stage, spec: Value) -> Result<()> {
    stage.create("workspaces", "Workspace", "box", spec).await
}

async fn rules(stage: &Stage, spec: Value) -> Result<()> {
    stage.create("sessionpolicies", "SessionPolicy", "default", spec).await
}

/// Plays the workload to its end.
///
/// # Errors
/// When what the people wait for does not come.
pub async fn play(workload: Workload, stage: &Stage) -> Result<()> {
    match workload {
        Workload::Launch => launch(stage).await,
        Workload::Idle => {
            let idle = json!({ "idle": { "after": "1s", "warnAfter": "2s", "disconnectAfter": "6s" } });
            by_time(stage, idle, "Disconnected").await
        }
        Workload::MaxDuration => by_time(stage, json!({ "maxDuration": "5s", "warnBefore": "2s" }), "Terminated").await,
        Workload::Delete => delete(stage).await,
        Workload::Stop => stop(stage).await,
        Workload::Race => race(stage).await,
        Workload::Template => edit(stage).await,
        Workload::Upgrade => upgrade(stage).await,
        Workload::Warm => warm(stage).await,
        Workload::Pool => pool(stage).await,
    }
}

async fn launch(stage: &Stage) -> Result<()> {
    let size = json!({ "requests": { "storage": "1Gi" } });
    let claim = json!({ "accessModes": ["ReadWriteOnce"], "resources": size });
    let mount =
        json!({ "volumeMounts": [{ "name": "home", "mountPath": "/home" }], "name": "main", "image": "simulated:1" });
    let mut template = template(json!({ "containers": [mount] }));
    template["volumeClaims"] = json!([{ "name": "home", "retention": "Retain", "spec": claim }]);
    offer(stage, workspace(template, 1)).await?;
    // As a rule a Workspace stands when somebody launches from it; in other workloads both come at once.
    let available = |stage: &Stage| {
        let workspaces = stage.objects("workspaces.berth.dev");
        workspaces.iter().any(|it| it.pointer("/status/phase") == Some(&json!("Available"))).then_some(())
    };
    stage.until("the Workspace is Available", available).await?;
    stage.session("mine", "ana").await?;
    stage.phase("mine", "Active").await?;
    stage.disconnect("mine").await?;
    stage.phase("mine", "Disconnected").await
}

async fn by_time(stage: &Stage, policy: Value, ends_as: &str) -> Result<()> {
    rules(stage, policy).await?;
    offer(stage, workspace(template(json!({})), 1)).await?;
    stage.session("mine", "ana").await?;
    stage.phase("mine", ends_as).await
}

async fn delete(stage: &Stage) -> Result<()> {
    // No node is like that: its pod stays Pending.
    offer(stage, workspace(template(json!({ "nodeSelector": { "nowhere": "true" } })), 1)).await?;
    stage.session("mine", "ana").await?;
    stage.until("the Session has a pod", |stage| stage.objects("pods").into_iter().next()).await?;
    stage.delete("sessions", "mine").await?;
    let gone = |stage: &Stage| stage.objects("sessions.berth.dev").is_empty().then_some(());
    stage.until("the Session is gone", gone).await
}

async fn stop(stage: &Stage) -> Result<()> {
    offer(stage, workspace(template(json!({})), 1)).await?;
    stage.session("mine", "ana").await?;
    stage.phase("mine", "Active").await?;
    let now = berth::api::time::display(berth::clock::Clock::system().now());
    let request = json!({ "as": "Terminated", "reason": "WorkspaceStopped", "at": now });
    stage.patch("sessions/mine/status", &json!({ "status": { "endRequest": request } })).await?;
    stage.phase("mine", "Terminated").await
}

async fn race(stage: &Stage) -> Result<()> {
    offer(stage, workspace(template(json!({})), 1)).await?;
    let (first, second) = futures::join!(stage.session("first", "ana"), stage.session("second", "ben"));
    first.and(second)?;
    let active = |stage: &Stage| {
        let sessions = stage.objects("sessions.berth.dev");
        let active = sessions.iter().find(|session| session.pointer("/status/phase") == Some(&json!("Active")));
        active.and_then(|session| session["metadata"]["name"].as_str().map(str::to_owned))
    };
    let winner = stage.until("one of two is Active", active).await?;
    let waits = |stage: &Stage| {
        let sessions = stage.objects("sessions.berth.dev");
        sessions.iter().any(|session| session.pointer("/status/phase") == Some(&json!("Pending"))).then_some(())
    };
    stage.until("the other waits", waits).await?;
    let other = if winner == "first" { "second" } else { "first" };
    stage.disconnect(&winner).await?;
    stage.phase(other, "Active").await?;
    stage.disconnect(other).await?;
    stage.phase(&winner, "Disconnected").await?;
    stage.phase(other, "Disconnected").await
}

async fn edit(stage: &Stage) -> Result<()> {
    offer(stage, workspace(template(json!({})), 2)).await?;
    stage.session("before", "ana").await?;
    stage.phase("before", "Active").await?;
    let image = json!([{ "name": "main", "image": "simulated:2" }]);
    stage.patch("workspaces/box", &json!({ "spec": { "template": { "spec": { "containers": image } } } })).await?;
    stage.session("after", "ben").await?;
    stage.phase("after", "Active").await?;
    stage.phase("before", "Active").await?;
    stage.disconnect("before").await?;
    stage.disconnect("after").await?;
    stage.phase("before", "Disconnected").await?;
    stage.phase("after", "Disconnected").await
}

async fn upgrade(stage: &Stage) -> Result<()> {
    offer(stage, workspace(template(json!({})), 1)).await?;
    stage.session("past", "ana").await?;
    stage.phase("past", "Active").await?;
    stage.disconnect("past").await?;
    stage.phase("past", "Disconnected").await?;
    stage.session("live", "ben").await?;
    stage.phase("live", "Active").await?;
    stage.session("waits", "eve").await?;
    stage.phase("waits", "Pending").await?;
    for place in &stage.places {
        let before = place.count();
        place.terminate();
        stage.until("another process has followed", |_| (place.count() > before).then_some(())).await?;
    }
    stage.disconnect("live").await?;
    stage.phase("waits", "Active").await?;
    stage.disconnect("waits").await?;
    stage.phase("waits", "Disconnected").await?;
    stage.phase("live", "Disconnected").await
}

async fn warm(stage: &Stage) -> Result<()> {
    let mut spec = workspace(template(json!({})), 4);
    spec["warm"] = json!({ "replicas": 2 });
    offer(stage, spec).await?;
    let full = |stage: &Stage| ready(stage, 2);
    stage.until("two pods wait", full).await?;
    let (first, second) = futures::join!(stage.session("first", "ana"), stage.session("second", "ben"));
    first.and(second)?;
    stage.phase("first", "Active").await?;
    stage.phase("second", "Active").await?;
    stage.until("two others wait", full).await?;
    stage.disconnect("first").await?;
    stage.disconnect("second").await?;
    stage.phase("first", "Disconnected").await?;
    stage.phase("second", "Disconnected").await
}

/// Whether so many pods wait, by the Workspace's own word.
fn ready(stage: &Stage, count: usize) -> Option<()> {
    let says = |workspace: &Value| workspace.pointer("/status/warm/ready") == Some(&json!(count));
    stage.objects("workspaces.berth.dev").iter().any(|workspace| says(workspace)).then_some(())
}

/// Changes the Workspace, while somebody launches from it.
async fn changed_beside(stage: &Stage, spec: Value, session: &str, user: &str) -> Result<()> {
    let patch = json!({ "spec": spec });
    let (changed, launched) = futures::join!(stage.patch("workspaces/box", &patch), stage.session(session, user));
    changed.and(launched)?;
    stage.phase(session, "Active").await
}

async fn pool(stage: &Stage) -> Result<()> {
    let mut spec = workspace(template(json!({})), 4);
    spec["warm"] = json!({ "replicas": 1 });
    offer(stage, spec).await?;
    stage.until("a pod waits", |stage| ready(stage, 1)).await?;
    changed_beside(stage, json!({ "warm": { "replicas": 2 } }), "first", "ana").await?;
    stage.until("two pods wait", |stage| ready(stage, 2)).await?;
    let image = json!([{ "name": "main", "image": "simulated:2" }]);
    changed_beside(stage, json!({ "template": { "spec": { "containers": image } } }), "second", "ben").await?;
    let serves = |pod: &&Arc<Value>| pod["metadata"]["labels"][SESSION_UID_LABEL].is_string();
    let edited = |stage: &Stage| {
        let pods = stage.objects("pods");
        let is_new = |pod: &Arc<Value>| pod["spec"]["containers"][0]["image"] == "simulated:2";
        let waiting: Vec<_> = pods.iter().filter(|pod| !serves(pod)).collect();
        (waiting.len() == 2 && waiting.into_iter().all(is_new)).then_some(())
    };
    stage.until("two pods of the new template wait", edited).await?;
    changed_beside(stage, json!({ "warm": null }), "third", "eve").await?;
    let empty = |stage: &Stage| stage.objects("pods").iter().all(|pod| serves(&pod)).then_some(());
    stage.until("no pod waits", empty).await?;
    for session in ["first", "second", "third"] {
        stage.disconnect(session).await?;
    }
    for session in ["first", "second", "third"] {
        stage.phase(session, "Disconnected").await?;
    }
    Ok(())
}
