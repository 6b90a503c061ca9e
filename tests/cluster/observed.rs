//! Sessions whose policy asks a gateway for their activity. No proxy carries traffic yet: an observer of this test's own plays it,
//! with a Lease of its own, as the proxy will have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth::api::condition::{Status, Type};
use berth::api::session::Phase;
use berth::api::time::to_wire_micro;
use berth::api::{OBSERVER_LABEL, Reason};
use chrono::{DateTime, Utc};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::harness::api::Person;
use crate::harness::{Scene, now, status};

/// Somebody who watches, by a Lease that is renewed while this lives.
struct Observer {
    name: String,
    leases: Api<Lease>,
    /// From when on it has watched.
    since: DateTime<Utc>,
    alive: Arc<AtomicBool>,
}

impl Observer {
    async fn begin(scene: &Scene, name: &str) -> Self {
        let leases: Api<Lease> = Api::namespaced(scene.client.clone(), "berth-system");
        let name = format!("observer.{}.{name}", scene.namespace);
        let spec = json!({ "holderIdentity": name, "leaseDurationSeconds": 4, "renewTime": to_wire_micro(now()) });
        let lease = json!({ "metadata": { "name": name, "labels": { OBSERVER_LABEL: "test" } }, "spec": spec });
        leases.create(&PostParams::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
        let alive = Arc::new(AtomicBool::new(true));
        let (renewing, of, lives) = (leases.clone(), name.clone(), Arc::clone(&alive));
        tokio::spawn(async move {
            while lives.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let spec = json!({ "spec": { "renewTime": to_wire_micro(now()) } });
                let _ = renewing.patch(&of, &PatchParams::default(), &Patch::Merge(spec)).await;
            }
        });
        Self { name, leases, since: now(), alive }
    }

    /// Says that nothing happened since it began to watch, up to now.
    async fn saw_nothing(&self, scene: &Scene, session: &str) {
        let seen = json!({ "observedSince": self.since, "observedUntil": now(), "observer": self.name });
        scene.observe(session, json!({ "activity": seen })).await.unwrap();
    }

    /// Says so again and again until the session is as `wanted` says.
    async fn watches_until(
        &self,
        scene: &Scene,
        session: &str,
        sentence: &str,
        wanted: impl Fn(&berth::api::Session) -> bool,
    ) {
        scene
            .eventually(sentence, || async {
                self.saw_nothing(scene, session).await;
                scene.find(session).await.filter(|session| wanted(session))
            })
            .await;
    }

    /// Dies, and leaves its Lease to run out.
    fn dies(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    async fn leaves(self) {
        self.dies();
        let _ = self.leases.delete(&self.name, &DeleteParams::default()).await;
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.dies();
    }
}

fn is_in(phase: Phase) -> impl Fn(&berth::api::Session) -> bool {
    move |session| session.status.as_ref().and_then(|status| status.phase) == Some(phase)
}

#[tokio::test]
async fn a_session_is_idle_and_ended_for_it_only_while_somebody_lives_who_watched() {
    let scene = Scene::new("watched").await;
    let idle = json!({ "after": "2s", "warnAfter": "12s", "disconnectAfter": "24s" });
    scene.policy("watched", json!({ "idle": idle, "activity": { "source": "gateway" } })).await;
    scene.workspace("box", json!({ "policyRef": { "name": "watched" } })).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    let known = scene.condition("mine", Type::ActivityKnown, Status::False).await;
    assert_eq!(known.reason, "NeverObserved");

    let first = Observer::begin(&scene, "first").await;
    first.watches_until(&scene, "mine", "what was watched makes it idle", is_in(Phase::Idle)).await;
    first.dies();
    let gone = scene.condition("mine", Type::ActivityKnown, Status::False).await;
    assert_eq!(gone.reason, "ObserverGone");
    let session = scene.phase("mine", Phase::Active).await;
    assert_eq!(status(&session).disconnect_reason, Some(Reason::MaxDuration), "unknown is not idle");
    first.leaves().await;

    // It knows nothing of the time before it began: that counts as activity.
    let second = Observer::begin(&scene, "second").await;
    second
        .watches_until(&scene, "mine", "it is warned", |session| {
            session.status.as_ref().is_some_and(|status| {
                status
                    .conditions
                    .iter()
                    .any(|it| it.type_ == Type::EndingSoon && it.reason == Reason::IdleTimeout.as_str())
            })
        })
        .await;
    second
        .watches_until(&scene, "mine", "and disconnected", |session| {
            session.status.as_ref().is_some_and(|status| status.ended_at.is_some())
        })
        .await;
    let ended = status(&scene.ended("mine", Phase::Disconnected, Reason::IdleTimeout).await);
    assert!(ended.ended_at.unwrap() - second.since >= chrono::TimeDelta::seconds(24), "nobody ends on what was missed");
    second.leaves().await;
}

#[tokio::test]
async fn a_gateway_holds_a_lease_and_vouches_for_the_calls_that_it_sees() {
    let scene = Scene::new("vouched").await;
    let idle = json!({ "after": "2s", "warnAfter": "60s", "disconnectAfter": "120s" });
    scene.policy("watched", json!({ "idle": idle, "activity": { "source": "gateway" } })).await;
    scene.workspace("box", json!({ "policyRef": { "name": "watched" } })).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    ana.sees(&scene, "box").await;
    let id = ana.launch("box").await;
    let name = ana.session(&id).await["name"].as_str().unwrap().to_owned();
    scene.phase(&name, Phase::Active).await;
    let vouched =
        scene.eventually("the launch was vouched for", || async { status(&scene.find(&name).await?).activity }).await;
    let gateway = vouched.observer.unwrap().to_string();
    assert!(gateway.starts_with("observer.berth-gateway-"), "{gateway}");
    assert_eq!(vouched.observed_since, vouched.observed_until, "no more than it saw");
    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), "berth-system");
    let lease = leases.get(&gateway).await.unwrap();
    assert!(lease.metadata.owner_references.is_some_and(|owners| owners[0].kind == "Pod"), "it goes with its pod");
    let known = scene.condition(&name, Type::ActivityKnown, Status::False).await;
    assert!(["NeverObserved", "NotObserved"].contains(&known.reason.as_str()), "one moment is no watch: {known:?}");

    let observer = Observer::begin(&scene, "proxy").await;
    observer.watches_until(&scene, &name, "it is idle", is_in(Phase::Idle)).await;
    let before = now();
    let kept = ana.post(&format!("/api/sessions/{id}/keepalive"), json!({})).await;
    assert_eq!((kept.status, &kept.body["phase"]), (200, &json!("Active")), "{kept:?}");
    let session = scene.get::<berth::api::Session>(&name).await;
    assert!(session.spec.keep_alive_at.unwrap() >= before);
    assert_eq!(
        status(&session).activity.unwrap().observer.unwrap().as_str(),
        observer.name,
        "who watches is left to it"
    );
    observer.leaves().await;
}
