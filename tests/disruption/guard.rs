//! The admission policies taken away or changed under a running operator: nobody is launched until they stand again, and
//! nobody who is in a session is touched.

use std::io::Write;
use std::process::{Command, Stdio};

use berth::api::Session;
use berth::api::condition::{Status, Type};
use berth::api::session::Phase;
use serde_json::json;

use crate::harness::{Scene, status};

/// The policies as this version writes them; they stand again when this is dropped.
struct Policies;

impl Policies {
    fn stand() {
        let written = Command::new(env!("CARGO_BIN_EXE_berth")).args(["manifests", "admission"]).output().unwrap();
        let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=berth-test", "-f", "-"];
        let mut kubectl =
            Command::new("kubectl").args(apply).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        kubectl.stdin.take().unwrap().write_all(&written.stdout).unwrap();
        assert!(kubectl.wait().unwrap().success());
    }
}

impl Drop for Policies {
    fn drop(&mut self) {
        Self::stand();
    }
}

fn kubectl(words: &[&str]) {
    assert!(Command::new("kubectl").args(words).stdout(Stdio::null()).status().unwrap().success(), "{words:?}");
}

#[tokio::test]
async fn nobody_is_launched_while_a_policy_is_missing_or_altered() {
    let scene = Scene::new("guard").await;
    let _policies = Policies;
    scene.workspace("box", json!({ "maxSessions": 9 })).await;
    scene.session("before", "box", json!({})).await;
    scene.phase("before", Phase::Active).await;
    let weaker = json!([{ "op": "replace", "path": "/spec/validations/0/expression", "value": "true" }]).to_string();
    let audited = json!([{ "op": "replace", "path": "/spec/validationActions", "value": ["Audit"] }]).to_string();
    let harms: [(&str, &str, &[&str]); 4] = [
        (
            "deleted",
            "the ValidatingAdmissionPolicy berth-session-create is missing",
            &["delete", "validatingadmissionpolicy", "berth-session-create"],
        ),
        (
            "unbound",
            "the ValidatingAdmissionPolicyBinding berth-session-change is missing",
            &["delete", "validatingadmissionpolicybinding", "berth-session-change"],
        ),
        (
            "weakened",
            "the ValidatingAdmissionPolicy berth-session-create is not as it was installed",
            &["patch", "validatingadmissionpolicy", "berth-session-create", "--type=json", "-p", &weaker],
        ),
        (
            "audited",
            "the ValidatingAdmissionPolicyBinding berth-session-status is not as it was installed",
            &["patch", "validatingadmissionpolicybinding", "berth-session-status", "--type=json", "-p", &audited],
        ),
    ];
    for (name, words, harm) in harms {
        kubectl(harm);
        // The operator learns of it in a moment; one that is launched before was launched by the policies.
        let held = scene
            .eventually(&format!("a launch waits while a policy is {name}"), || async {
                let tried = format!("{name}-{}", scene.list::<Session>().await.len());
                scene.session(&tried, "box", json!({})).await;
                let decided = scene
                    .eventually("the launch was decided on", || async {
                        let session = scene.find::<Session>(&tried).await?;
                        status(&session).conditions.iter().any(|it| it.type_ == Type::Admitted).then_some(session)
                    })
                    .await;
                let admitted = status(&decided).conditions.into_iter().find(|it| it.type_ == Type::Admitted).unwrap();
                if admitted.status == Status::True {
                    scene.delete::<Session>(&tried).await;
                    return None;
                }
                Some((tried, admitted))
            })
            .await;
        let (session, admitted) = held;
        assert_eq!(admitted.reason, "AdmissionPolicyMissing", "{admitted:?}");
        assert!(admitted.message.contains(words), "{name}: {}", admitted.message);
        assert_eq!(status(&scene.get::<Session>("before").await).phase, Some(Phase::Active));
        Policies::stand();
        scene.phase(&session, Phase::Active).await;
        scene.delete::<Session>(&session).await;
    }
}
