//! Instances that wait for sessions: what a launch is given, what becomes of the pool, and what is told of both.

use berth::api::condition::{self, Status, Type};
use berth::api::session::Phase;
use berth::api::{Reason, SESSION_UID_LABEL, Session, WARM_SLOT_LABEL, Workspace};
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Scene, pod_spec, status};

/// The pods that wait and can be had.
async fn waiting(scene: &Scene) -> Vec<Pod> {
    let is_ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
    };
    let waits = |pod: &Pod| {
        pod.labels().contains_key(WARM_SLOT_LABEL)
            && !pod.labels().contains_key(SESSION_UID_LABEL)
            && pod.metadata.deletion_timestamp.is_none()
            && is_ready(pod)
    };
    scene.list::<Pod>().await.into_iter().filter(waits).collect()
}

/// Waits until so many wait, and the Workspace says so.
async fn filled(scene: &Scene, count: usize) -> Vec<Pod> {
    scene
        .eventually(&format!("{count} instances wait"), || async {
            let pods = waiting(scene).await;
            let workspace = scene.get::<Workspace>("box").await;
            let said = workspace.status?.warm?;
            let agreed = i32::try_from(count).is_ok_and(|count| (said.ready, said.replicas) == (count, count));
            (pods.len() == count && agreed).then_some(pods)
        })
        .await
}

fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn a_launch_is_given_a_pod_that_waited_and_another_takes_its_place() {
    let scene = Scene::new("adopt").await;
    scene.workspace("box", json!({ "maxSessions": 5, "warm": { "replicas": 2 } })).await;
    let before = filled(&scene, 2).await;
    scene.session("mine", "box", json!({ "user": { "id": "ana" } })).await;
    let session = scene.phase("mine", Phase::Active).await;
    let pod = scene.pods_of(&session).await.remove(0);
    assert!(names(&before).contains(&pod.name_any()), "{}", pod.name_any());
    assert_eq!(status(&session).instance.unwrap().uid, pod.uid().unwrap());
    // It is the session's alone, and says whose it is.
    let owners = pod.owner_references();
    assert!(
        matches!(owners, [owner] if owner.kind == "Session" && Some(&owner.uid) == session.uid().as_ref()),
        "{owners:?}"
    );
    assert_eq!(pod.annotations()["berth.dev/user"], "ana");
    let user = || scene.kubectl(&["exec", &pod.name_any(), "--", "cat", "/run/berth/user"]);
    // The kubelet writes it by its next look at the pod, which may be a minute and a half away.
    for _ in 0..100 {
        if user() == "ana" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    assert_eq!(user(), "ana", "the instance knows its user");
    filled(&scene, 2).await;
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    // It was never Starting: that it waited was over with its adoption.
    assert!(!scene.story("mine").await.phases().contains(&Phase::Starting));
    scene.gone::<Pod>(&pod.name_any()).await;
    assert_eq!(waiting(&scene).await.len(), 2);
}

#[tokio::test]
async fn more_launches_than_pods_that_wait_are_cold_and_all_succeed() {
    let scene = Scene::new("cold").await;
    scene.workspace("box", json!({ "maxSessions": 4, "warm": { "replicas": 1 } })).await;
    filled(&scene, 1).await;
    for name in ["a", "b", "c", "d"] {
        scene.session(name, "box", json!({ "user": { "id": name } })).await;
    }
    let mut pods = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let session = scene.phase(name, Phase::Active).await;
        pods.extend(names(&scene.pods_of(&session).await));
    }
    pods.sort();
    pods.dedup();
    assert_eq!(pods.len(), 4, "one each: {pods:?}");
}

#[tokio::test]
async fn kubectl_scale_sets_the_size_and_an_autoscaler_finds_the_pods() {
    let scene = Scene::new("scale").await;
    scene.workspace("box", json!({ "maxSessions": 5, "warm": { "replicas": 1 } })).await;
    filled(&scene, 1).await;
    for count in [3, 0, 2] {
        let said = scene.kubectl(&["scale", "workspace/box", &format!("--replicas={count}")]);
        assert!(said.contains("scaled"), "{said}");
        filled(&scene, count).await;
    }
    let scale = scene.api::<Workspace>().get_scale("box").await.unwrap();
    let selector = scale.status.unwrap().selector.unwrap();
    let found = scene.api::<Pod>().list(&kube::api::ListParams::default().labels(&selector)).await.unwrap();
    // Those of the larger pool may still be going: whoever counts by the selector, as an autoscaler does, leaves them out.
    let stays = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
    assert_eq!(found.items.iter().filter(stays).count(), 2);
    // A change of size is none of the template: nobody waits for another verdict, and no pod is replaced.
    let before = names(&waiting(&scene).await);
    scene.patch::<Workspace>("box", json!({ "spec": { "displayName": "Another name" } })).await;
    scene.session("mine", "box", json!({})).await;
    let session = scene.phase("mine", Phase::Active).await;
    assert!(before.contains(&scene.pods_of(&session).await.remove(0).name_any()));
}

#[tokio::test]
async fn a_horizontal_pod_autoscaler_keeps_a_pool_between_its_bounds() {
    let scene = Scene::new("autoscaler").await;
    scene.workspace("box", json!({ "maxSessions": 5, "warm": { "replicas": 1 } })).await;
    filled(&scene, 1).await;
    // Nobody serves metrics here: then it is its bounds alone that it keeps to.
    scene
        .create::<HorizontalPodAutoscaler>(json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "box" },
            "spec": {
                "scaleTargetRef": { "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace", "name": "box" },
                "minReplicas": 2, "maxReplicas": 3,
                "metrics": [{
                    "type": "External",
                    "external": { "metric": { "name": "booked" }, "target": { "type": "Value", "value": "1" } },
                }],
            },
        }))
        .await;
    filled(&scene, 2).await;
    scene.kubectl(&["scale", "workspace/box", "--replicas=5"]);
    filled(&scene, 3).await;
    let autoscaler = scene.get::<HorizontalPodAutoscaler>("box").await;
    let conditions = autoscaler.status.and_then(|status| status.conditions).unwrap_or_default();
    let is_able = |it: &HorizontalPodAutoscalerCondition| it.type_ == "AbleToScale" && it.status == "True";
    assert!(conditions.iter().any(is_able), "{conditions:?}");
}

#[tokio::test]
async fn an_edit_of_the_template_replaces_those_that_wait_and_touches_nobody_else() {
    let scene = Scene::new("edit-warm").await;
    scene.workspace("box", json!({ "maxSessions": 5, "warm": { "replicas": 2 } })).await;
    filled(&scene, 2).await;
    scene.session("before", "box", json!({ "user": { "id": "ana" } })).await;
    let session = scene.phase("before", Phase::Active).await;
    let kept = scene.pods_of(&session).await.remove(0);
    let old = names(&filled(&scene, 2).await);
    let template = pod_spec(json!({ "env": [{ "name": "EDITION", "value": "second" }] }));
    scene.patch::<Workspace>("box", json!({ "spec": { "template": { "spec": template } } })).await;
    let new = scene
        .eventually("none of the first edition waits", || async {
            let pods = waiting(&scene).await;
            (pods.len() == 2 && names(&pods).iter().all(|name| !old.contains(name))).then_some(pods)
        })
        .await;
    assert!(json!(new[0]).to_string().contains("EDITION"));
    let same = scene.get::<Pod>(&kept.name_any()).await;
    assert_eq!((same.uid(), same.metadata.deletion_timestamp), (kept.uid(), None));
}

#[tokio::test]
async fn a_pod_that_goes_is_replaced_and_a_pool_goes_with_its_workspace() {
    let scene = Scene::new("replace").await;
    scene.workspace("box", json!({ "maxSessions": 5, "warm": { "replicas": 2 } })).await;
    let pods = filled(&scene, 2).await;
    let [lost, other] = [0, 1].map(|at: usize| pods[at].name_any());
    scene.api::<Pod>().delete(&lost, &DeleteParams::default().grace_period(0)).await.unwrap();
    // Whatever somebody does to its marks, a pod is replaced or mended.
    let strip = Patch::Merge(json!({ "metadata": { "annotations": null } }));
    scene.api::<Pod>().patch(&other, &PatchParams::default(), &strip).await.unwrap();
    // Of a pod that went at once nothing may be known any more, and then another gets its name.
    let before: Vec<_> = pods.iter().map(ResourceExt::uid).collect();
    scene
        .eventually("two others wait", || async {
            let pods = waiting(&scene).await;
            (pods.len() == 2 && pods.iter().all(|pod| !before.contains(&pod.uid()))).then_some(())
        })
        .await;
    scene.delete::<Workspace>("box").await;
    scene.no_pods().await;
}

#[tokio::test]
async fn what_is_a_users_before_there_is_one_makes_launches_cold_and_says_so() {
    let scene = Scene::new("personal").await;
    let who = json!({ "name": "WHO", "valueFrom": { "fieldRef": { "fieldPath": "metadata.annotations['berth.dev/user']" } } });
    let template = json!({ "spec": pod_spec(json!({ "env": [who] })) });
    scene.workspace("box", json!({ "warm": { "replicas": 1 }, "template": template })).await;
    let said = scene
        .eventually("the Workspace says why its pool is empty", || async {
            let conditions = scene.get::<Workspace>("box").await.status?.conditions;
            condition::find(&conditions, Type::WarmPoolFilled).filter(|it| it.status == Status::False).cloned()
        })
        .await;
    assert_eq!(said.reason, "Impossible");
    assert!(said.message.contains("env[WHO]") && said.message.contains("/run/berth/user"), "{}", said.message);
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    assert_eq!(waiting(&scene).await.len(), 0);
}

#[tokio::test]
async fn hours_and_demand_ask_for_more_than_the_number_that_is_written() {
    let scene = Scene::new("hours").await;
    let always = json!({ "start": "* * * * *", "end": "0 0 1 1 *", "timeZone": "Europe/Warsaw", "replicas": 2 });
    scene.workspace("box", json!({ "maxSessions": 6, "warm": { "schedule": [always] } })).await;
    filled(&scene, 2).await;
    let demand: Value = json!({ "schedule": null, "demand": { "window": "1h", "max": 3 } });
    scene.patch::<Workspace>("box", json!({ "spec": { "warm": demand } })).await;
    filled(&scene, 0).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    filled(&scene, 1).await;
    // One that was written wrongly is told, and holds nothing else up.
    let never = json!({ "start": "0 0 30 2 *", "end": "0 18 * * *", "replicas": 5 });
    scene.patch::<Workspace>("box", json!({ "spec": { "warm": { "schedule": [never] } } })).await;
    scene
        .eventually("the Workspace says what is wrong with the hours", || async {
            let conditions = scene.get::<Workspace>("box").await.status?.conditions;
            let said = condition::find(&conditions, Type::WarmPoolFilled)?;
            (said.reason == "ScheduleInvalid" && said.message.contains("never comes")).then_some(())
        })
        .await;
    filled(&scene, 1).await;
    assert_eq!(scene.list::<Session>().await.len(), 1);
}
