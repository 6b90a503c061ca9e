//! A pod's status as a kubelet writes it. Owns the words; when they are written is the kubelet's.

use serde_json::{Value, json};

use crate::apiserver::meta::text;

/// One thing that a kubelet does, and writes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// It has seen the pod.
    Admit,
    /// A container waits, for this reason.
    Wait(&'static str, &'static str),
    /// The containers run.
    Run,
    /// They are ready.
    Ready,
    /// One exited with this code and runs anew.
    Restart(i32),
    /// One exited with this code, and the pod with it.
    Exit(i32),
    /// The node needs the room.
    Evict,
    /// The containers have stopped, as the pod is being deleted.
    Stop,
    /// Nothing is left of the pod. Not a status: the deletion is confirmed.
    Confirm,
}

/// The patch of the pod's status that says it.
pub(super) fn patch(pod: &Value, uid: &str, act: Act, ip: &str, time: &str) -> Value {
    let mut status = json!({ "hostIP": "10.99.0.1" });
    let started = text(pod, "/status/startTime");
    status["startTime"] = json!(if started.is_empty() { time } else { started });
    let phase = match act {
        Act::Admit | Act::Wait(..) => "Pending",
        Act::Run | Act::Ready | Act::Restart(_) => "Running",
        Act::Exit(0) | Act::Stop => "Succeeded",
        Act::Exit(_) | Act::Evict | Act::Confirm => "Failed",
    };
    let terminal = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    if !terminal {
        status["phase"] = json!(phase);
    }
    if phase == "Running" {
        status["podIP"] = json!(ip);
        status["podIPs"] = json!([{ "ip": ip }]);
    }
    if act == Act::Evict {
        status["reason"] = json!("Evicted");
        status["message"] = json!("The node was low on resource: memory.");
    }
    status["containerStatuses"] = containers(pod, act, time);
    status["conditions"] = conditions(pod, act, time);
    json!({ "metadata": { "uid": uid }, "status": status })
}

fn containers(pod: &Value, act: Act, time: &str) -> Value {
    let before = |name: &Value| {
        let listed = pod["status"]["containerStatuses"].as_array();
        listed.and_then(|listed| listed.iter().find(|status| status["name"] == *name)).cloned().unwrap_or_default()
    };
    let specs = pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let status = |(index, spec): (usize, &Value)| {
        let before = before(&spec["name"]);
        let terminated = |code: i32| {
            let reason = if code == 0 { "Completed" } else { "Error" };
            let started = before.pointer("/state/running/startedAt").cloned().unwrap_or_else(|| json!(time));
            json!({ "terminated": { "exitCode": code, "reason": reason, "startedAt": started, "finishedAt": time } })
        };
        let running = || json!({ "running": { "startedAt": time } });
        let state = match act {
            Act::Admit => json!({ "waiting": { "reason": "ContainerCreating" } }),
            Act::Wait(reason, message) => json!({ "waiting": { "reason": reason, "message": message } }),
            Act::Run => running(),
            // Only one of them exits.
            Act::Restart(_) if index == 0 => running(),
            Act::Exit(code) if index == 0 => terminated(code),
            Act::Ready | Act::Restart(_) => before.get("state").cloned().unwrap_or_else(running),
            Act::Exit(_) | Act::Stop => terminated(0),
            Act::Evict | Act::Confirm => terminated(137),
        };
        let mut status = json!({
            "name": spec["name"], "image": spec["image"], "imageID": "", "state": state,
            "ready": act == Act::Ready || (matches!(act, Act::Restart(_)) && index > 0),
            "started": matches!(act, Act::Run | Act::Ready | Act::Restart(_)),
            "restartCount": before["restartCount"].as_i64().unwrap_or_default(),
        });
        if let Some(last) = before.get("lastState") {
            status["lastState"] = last.clone();
        }
        if let (Act::Restart(code), 0) = (act, index) {
            status["restartCount"] = json!(before["restartCount"].as_i64().unwrap_or_default() + 1);
            status["lastState"] = terminated(code);
        }
        status
    };
    specs.iter().enumerate().map(status).collect()
}

fn conditions(pod: &Value, act: Act, time: &str) -> Value {
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = act == Act::Ready;
    let over = matches!(act, Act::Exit(0) | Act::Stop);
    let why = if over { "PodCompleted" } else { "ContainersNotReady" };
    let mut said = vec![
        ("PodReadyToStartContainers", act != Act::Admit && !over && act != Act::Evict, None),
        ("Initialized", true, over.then_some("PodCompleted")),
        ("Ready", ready, (!ready).then_some(why)),
        ("ContainersReady", ready, (!ready).then_some(why)),
    ];
    if act == Act::Evict {
        said.push(("DisruptionTarget", true, Some("TerminationByKubelet")));
    }
    for (type_, truth, reason) in said {
        let truth = if truth { "True" } else { "False" };
        let mut condition =
            json!({ "type": type_, "status": truth, "lastProbeTime": null, "lastTransitionTime": time });
        if let Some(reason) = reason {
            condition["reason"] = json!(reason);
        }
        match conditions.iter_mut().find(|stands| stands["type"] == type_) {
            Some(stands) => {
                if stands["status"] == truth {
                    condition["lastTransitionTime"] = stands["lastTransitionTime"].clone();
                }
                *stands = condition;
            }
            None => conditions.push(condition),
        }
    }
    json!(conditions)
}
