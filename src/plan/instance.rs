//! What a pod says about the instance: usable, not yet and why, or lost. Owns the reading of a pod's status;
//! not what follows from it.

use crate::api::pod::{ContainerStatus, Pod};
use k8s_openapi::api::core::v1::{ContainerState, PodCondition};
use kube::ResourceExt;

use crate::api::ACCESS_ANNOTATION;
use crate::api::session::Instance;
use crate::api::workspace::url_at;
use crate::plan::shorten;

/// What a pod says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is being made, as one would expect.
    Coming,
    /// Something keeps it from being usable: the pod's own reason and words.
    Troubled(Trouble),
    /// It can be used.
    Usable,
    /// It will not be usable again.
    Lost(String),
}

/// A pod's own reason and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One word, such as `ImagePullBackOff`.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// Reasons of waiting containers that belong to every start.
const EXPECTED: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What `pod` says about the instance.
pub fn health(pod: &Pod) -> Health {
    if let Some(lost) = lost(pod) {
        return Health::Lost(lost);
    }
    if condition(pod, "Ready").is_some_and(|ready| ready.status == "True") {
        return Health::Usable;
    }
    trouble(pod).map_or(Health::Coming, Health::Troubled)
}

/// What the status says of the pod.
pub fn describe(pod: &Pod) -> Instance {
    Instance {
        pod: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        ip: pod.status.as_ref().and_then(|status| status.pod_ip.clone()),
        node: node(pod).map(str::to_owned),
    }
}

/// The name of the node that the pod was given.
pub fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Where the instance listens, once it has an address. The pod itself says on which port: its Workspace may have been
/// edited since it was made.
pub fn url(pod: &Pod) -> Option<String> {
    let host = pod.status.as_ref()?.pod_ip.as_deref()?;
    url_at(host, pod.annotations().get(ACCESS_ANNOTATION)?)
}

/// Why the pod is about to be deleted by somebody who makes room, if it is: the condition comes before the deletion.
pub fn disruption(pod: &Pod) -> Option<&PodCondition> {
    condition(pod, "DisruptionTarget").filter(|target| target.status == "True")
}

/// Why the pod will not be usable again, if so. A deletion cannot be taken back, and a pod that has run to
/// its end is not started again.
fn lost(pod: &Pod) -> Option<String> {
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(match disruption(pod) {
            Some(target) => shorten(&format!("pod {name} is being deleted: {}", words(target))),
            None => format!("pod {name} is being deleted"),
        });
    }
    let status = pod.status.as_ref()?;
    match status.phase.as_deref() {
        Some("Failed" | "Succeeded") => {
            let why = status
                .reason
                .clone()
                .or_else(|| statuses(pod).find_map(exit))
                .unwrap_or_else(|| "it ran to its end".to_owned());
            let more = status.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
            Some(shorten(&format!("pod {name} has stopped for good: {why}{more}")))
        }
        _ => None,
    }
}

/// What keeps a pod that is not lost from being usable, if it is out of the ordinary.
fn trouble(pod: &Pod) -> Option<Trouble> {
    let unschedulable = condition(pod, "PodScheduled")
        .filter(|scheduled| scheduled.status == "False")
        .and_then(|scheduled| scheduled.reason.clone().map(|reason| (reason, scheduled)))
        .filter(|(reason, scheduled)| reason == "Unschedulable" && !awaits_its_claims(scheduled))
        .map(|(reason, scheduled)| Trouble { reason, message: scheduled.message.clone().unwrap_or_default() });
    unschedulable
        .or_else(|| statuses(pod).find_map(container_trouble))
        .or_else(|| node_trouble(pod))
        .map(|trouble| Trouble { message: shorten(&trouble.message), ..trouble })
}

/// Whether the scheduler only waits for the claims of ephemeral volumes, which are made right after the pod.
fn awaits_its_claims(scheduled: &PodCondition) -> bool {
    scheduled.message.as_deref().is_some_and(|words| words.contains("waiting for ephemeral volume controller"))
}

/// A container that waits for something, or that has stopped.
fn container_trouble(status: &ContainerStatus) -> Option<Trouble> {
    let name = &status.name;
    match status.state.as_ref()? {
        ContainerState { waiting: Some(waiting), .. } => {
            let reason = waiting.reason.clone().filter(|reason| !EXPECTED.contains(&reason.as_str()))?;
            let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref()).map(|last| {
                format!(" (last exit {}: {})", last.exit_code, last.reason.as_deref().unwrap_or("no reason given"))
            });
            let words = waiting.message.clone().unwrap_or_else(|| reason.clone());
            Some(Trouble { reason, message: format!("container {name}: {words}{}", last.unwrap_or_default()) })
        }
        ContainerState { terminated: Some(ended), .. } if ended.exit_code != 0 => {
            let reason = ended.reason.clone().unwrap_or_else(|| "ContainerStopped".to_owned());
            Some(Trouble {
                message: format!("container {name} stopped with exit code {}: {reason}", ended.exit_code),
                reason,
            })
        }
        ContainerState { running: Some(_), .. } if !status.ready => {
            let last = status.last_state.as_ref()?.terminated.as_ref()?;
            let reason = last.reason.clone().filter(|reason| reason != "Error" && reason != "Completed");
            let why = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            Some(Trouble {
                reason: reason.unwrap_or_else(|| "ContainerRestarted".to_owned()),
                message: format!(
                    "container {name} was started again after it stopped with exit code {}{why}",
                    last.exit_code
                ),
            })
        }
        _ => None,
    }
}

/// A pod whose containers were all ready when it was last heard of and that is not ready: its node is silent.
fn node_trouble(pod: &Pod) -> Option<Trouble> {
    condition(pod, "Ready").filter(|ready| ready.status != "True")?;
    let heard_ready = statuses(pod).next().is_some() && statuses(pod).all(|status| status.ready);
    let node = node(pod).unwrap_or("unknown");
    heard_ready.then(|| Trouble {
        reason: "NodeNotReady".to_owned(),
        message: format!("node {node} has stopped reporting; whether the instance still runs is not known"),
    })
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let main = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    init.iter().chain(main)
}

fn exit(status: &ContainerStatus) -> Option<String> {
    let ended = status.state.as_ref()?.terminated.as_ref()?;
    let reason = ended.reason.as_deref().unwrap_or("no reason given");
    Some(format!("container {} exited with code {} ({reason})", status.name, ended.exit_code))
}

/// What the pod's condition of this type says.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

fn words(condition: &PodCondition) -> String {
    let reason = condition.reason.as_deref().unwrap_or_default();
    let message = condition.message.as_deref().unwrap_or_default();
    format!("{reason}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "status": status})).unwrap_or_default()
    }

    #[test]
    fn a_ready_pod_is_usable() {
        assert_eq!(
            health(&pod(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}))),
            Health::Usable
        );
    }

    #[test]
    fn an_ordinary_start_is_no_trouble() {
        for status in [
            json!({"phase": "Pending"}),
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\"."}]}),
            json!({"phase": "Pending", "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]}),
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}], "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"running": {}}}]}),
        ] {
            assert_eq!(health(&pod(status.clone())), Health::Coming, "{status}");
        }
    }

    #[test]
    fn the_pods_own_reason_is_told() {
        for (status, reason) in [
            (
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}),
                "Unschedulable",
            ),
            (
                json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "not there"}}}]}),
                "ErrImageNeverPull",
            ),
            (
                json!({"initContainerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
                "CrashLoopBackOff",
            ),
            (
                json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}),
                "OOMKilled",
            ),
        ] {
            match health(&pod(status.clone())) {
                Health::Troubled(trouble) => assert_eq!(trouble.reason, reason),
                other => assert_eq!(format!("{other:?}"), reason, "{status}"),
            }
        }
    }

    #[test]
    fn a_container_that_was_started_again_says_why_until_it_is_ready() {
        for (last, reason) in [
            (json!({"exitCode": 137, "reason": "OOMKilled"}), "OOMKilled"),
            (json!({"exitCode": 3, "reason": "Error"}), "ContainerRestarted"),
        ] {
            let container = |ready: bool| json!({"name": "c", "image": "", "imageID": "", "ready": ready, "restartCount": 1, "state": {"running": {}}, "lastState": {"terminated": last}});
            match health(&pod(json!({"phase": "Running", "containerStatuses": [container(false)]}))) {
                Health::Troubled(trouble) => {
                    assert_eq!(trouble.reason, reason);
                    assert!(trouble.message.contains("exit code"), "{}", trouble.message);
                }
                other => assert_eq!(format!("{other:?}"), reason),
            }
            let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [container(true)]});
            assert_eq!(health(&pod(ready)), Health::Usable);
        }
    }

    #[test]
    fn a_pod_that_is_going_or_has_stopped_is_lost() {
        let going: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}]}})).unwrap_or_default();
        assert!(matches!(health(&going), Health::Lost(why) if why.contains("EvictionByEvictionAPI")));
        assert!(
            matches!(health(&pod(json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}))), Health::Lost(why) if why.contains("Evicted"))
        );
    }
}
