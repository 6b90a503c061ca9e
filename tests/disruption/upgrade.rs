//! An upgrade of the definitions under objects that are stored: from the schema that Berth began with to today's. Nothing
//! that was written is lost, and what today's rules would refuse does not hold up what was there before them.

use std::path::PathBuf;
use std::process::Command;

use berth::api::session::Phase;
use berth::api::{Reason, Session, SessionPolicy, Workspace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::harness::{Kind, Scene, session_spec};
use crate::release::Release;

/// Today's chart with the definitions that Berth began with, in a folder that goes when this is dropped.
struct FirstChart(PathBuf);

impl FirstChart {
    fn new(scene: &Scene) -> Self {
        let chart = Self(std::env::temp_dir().join(format!("{}-chart", scene.namespace)));
        let copied = Command::new("cp").arg("-r").arg("charts/berth").arg(&chart.0).status().unwrap();
        assert!(copied.success());
        for kind in ["sessionpolicies", "sessions", "workspaces"] {
            let first = std::fs::read_to_string(format!("tests/fixtures/first-crds/{kind}.yaml")).unwrap();
            let named = format!("  name: {kind}.berth.dev\n");
            assert!(first.contains(&named), "{kind}");
            let kept = format!("{named}  annotations:\n    helm.sh/resource-policy: keep\n");
            // The operator here is today's, and says what those of the beginning did not.
            let mut template = first.replacen(&named, &kept, 1);
            for line in first.lines().filter(|line| line.trim() == "- TemplateValid").take(1) {
                let today = ["NetworkPolicyApplied", "Unprotected", "NodeDraining"];
                let added: String = today.iter().map(|type_| line.replace("TemplateValid", type_) + "\n").collect();
                template = template.replace(&format!("{line}\n"), &format!("{line}\n{added}"));
            }
            std::fs::write(chart.0.join(format!("templates/crd-{kind}.yaml")), template).unwrap();
        }
        chart
    }
}

impl Drop for FirstChart {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The rules of `spec.user.email` as they stand in the cluster: today's, or those of the beginning.
async fn email_rules(scene: &Scene) -> String {
    let definitions: Api<CustomResourceDefinition> = Api::all(scene.client.clone());
    let sessions = serde_json::to_value(definitions.get("sessions.berth.dev").await.unwrap()).unwrap();
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/user/properties/email";
    sessions.pointer(path).unwrap().to_string()
}

/// What somebody wrote of the object, and what was observed of it.
async fn written<K: Kind + serde::Serialize>(scene: &Scene, name: &str) -> Value {
    let object = serde_json::to_value(scene.get::<K>(name).await).unwrap();
    let meta = &object["metadata"];
    json!({
        "uid": meta["uid"], "labels": meta["labels"], "annotations": meta["annotations"],
        "finalizers": meta["finalizers"], "spec": object["spec"], "status": object["status"],
    })
}

/// The paths at which `before` has a value and `after` another or none.
fn lost(path: &str, before: &Value, after: &Value) -> Vec<String> {
    match before {
        Value::Object(fields) => {
            fields.iter().flat_map(|(key, value)| lost(&format!("{path}.{key}"), value, &after[key])).collect()
        }
        Value::Null => Vec::new(),
        value if value == after => Vec::new(),
        value => vec![format!("{path}: {value} became {after}")],
    }
}

#[tokio::test]
async fn an_upgrade_from_the_first_definitions_loses_nothing_that_was_stored() {
    let scene = Scene::new("upgrade").await;
    let release = Release::installed();
    let first = FirstChart::new(&scene);
    // Other tests have written into the definitions.
    release.apply_from(first.0.to_str().unwrap(), &["--force-conflicts"]).unwrap();
    assert!(!email_rules(&scene).await.contains("e-mail address"), "the first definitions stand");

    scene
        .policy(
            "rules",
            json!({
                "idle": { "after": "10m", "warnAfter": "20m", "disconnectAfter": "30m", "allowKeepAlive": true },
                "maxDuration": "8h", "startTimeout": "5m", "queueTimeout": "1h",
            }),
        )
        .await;
    scene.workspace("box", json!({
        "displayName": "A box", "description": "for an upgrade", "maxSessions": 4, "policyRef": { "name": "rules" },
    })).await;
    // Today's rules want an address here.
    let user = json!({ "user": { "id": "ana", "displayName": "Ana", "email": "ana", "groups": ["a", "b"] } });
    for name in ["live", "over"] {
        scene
            .create::<Session>(json!({
                "metadata": { "name": name, "labels": { "team": "one" }, "annotations": { "note": "kept" } },
                "spec": session_spec("box", user.clone()),
            }))
            .await;
        scene.phase(name, Phase::Active).await;
    }
    scene.disconnect("over").await;
    scene.ended("over", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.let_go("over").await;
    scene
        .eventually("the Workspace has its count", || async {
            (scene.get::<Workspace>("box").await.status?.active_sessions == Some(1)).then_some(())
        })
        .await;
    let stored = || async {
        [
            written::<SessionPolicy>(&scene, "rules").await,
            written::<Workspace>(&scene, "box").await,
            written::<Session>(&scene, "live").await,
            written::<Session>(&scene, "over").await,
        ]
    };
    let before = stored().await;
    assert_eq!(before[2]["spec"]["user"]["email"], "ana", "{before:?}");

    release.apply(&[]).unwrap();
    assert!(email_rules(&scene).await.contains("e-mail address"), "today's definitions stand");
    // Today's operator writes more into the status of a live session; what stood there stays.
    for (before, after) in before.iter().zip(&stored().await) {
        assert_eq!(lost("", before, after), Vec::<String>::new());
        assert_eq!(before["spec"], after["spec"]);
    }
    let refused = session_spec("box", user);
    let refused = scene.try_create::<Session>(json!({ "metadata": { "name": "new" }, "spec": refused })).await;
    assert!(refused.unwrap_err().to_string().contains("e-mail address"));
    scene.disconnect("live").await;
    scene.ended("live", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.no_pods().await;
    assert_eq!(scene.get::<Session>("live").await.labels().get("team").map(String::as_str), Some("one"));
}
