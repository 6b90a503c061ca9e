//! The simulated API server, seen by kube's own client and watcher: the sentences that an operator relies on.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what must be so")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth::api::Session;
use berth_simulation::{
    After, ApiServer, Before, Call, Dice, Fate, Frame, Outcome, Passage, Refusal, SimClock, Verb, Wire, Wires,
};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn server() -> (ApiServer, Client) {
    let server = ApiServer::new(SimClock::new(), &Dice::new(1));
    server.namespace("demo");
    let client = server.client("me");
    (server, client)
}

fn of<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn map(name: &str, value: &str) -> ConfigMap {
    of(json!({"metadata": {"name": name, "labels": {"v": value}}, "data": {"v": value}}))
}

fn session(name: &str) -> Session {
    of(json!({"apiVersion": "berth.dev/v1alpha1", "kind": "Session", "metadata": {"name": name},
        "spec": {"workspaceRef": {"name": "w"}, "user": {"id": "ana"}}}))
}

fn code<T: std::fmt::Debug>(outcome: Result<T, kube::Error>) -> (u16, String) {
    match outcome {
        Err(kube::Error::Api(status)) => (status.code, status.reason),
        other => panic!("not refused: {other:?}"),
    }
}

fn merge(value: Value) -> Patch<Value> {
    Patch::Merge(value)
}

#[tokio::test(start_paused = true)]
async fn an_object_is_made_once_and_changed_by_those_who_know_it() {
    let (_, client) = server();
    let api: Api<ConfigMap> = Api::namespaced(client, "demo");
    let made = api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    assert!(made.uid().is_some() && made.creation_timestamp().is_some());
    assert_eq!(code(api.create(&PostParams::default(), &map("a", "1")).await), (409, "AlreadyExists".into()));
    let known = made.resource_version();
    let mine = merge(json!({"metadata": {"resourceVersion": known}, "data": {"v": "2"}}));
    let changed = api.patch("a", &PatchParams::default(), &mine).await.unwrap();
    assert_ne!(changed.resource_version(), known);
    assert_eq!(code(api.patch("a", &PatchParams::default(), &mine).await), (409, "Conflict".into()));
    let same = merge(json!({"data": {"v": "2"}}));
    let unchanged = api.patch("a", &PatchParams::default(), &same).await.unwrap();
    assert_eq!(unchanged.resource_version(), changed.resource_version(), "a write that changes nothing is none");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&dry, &map("b", "1")).await.unwrap();
    assert!(api.get_opt("b").await.unwrap().is_none(), "what is only tried is not there");
}

#[tokio::test(start_paused = true)]
async fn a_delete_takes_only_the_object_that_it_means() {
    let (_, client) = server();
    let api: Api<ConfigMap> = Api::namespaced(client, "demo");
    let made = api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let with = |uid: Option<String>, version: Option<String>| {
        DeleteParams::default().preconditions(Preconditions { uid, resource_version: version })
    };
    for wrong in [with(Some("other".into()), None), with(made.uid(), Some("1".into()))] {
        assert_eq!(code(api.delete("a", &wrong).await), (409, "Conflict".into()));
    }
    api.delete("a", &with(made.uid(), made.resource_version())).await.unwrap();
    assert_eq!(code(api.delete("a", &DeleteParams::default()).await), (404, "NotFound".into()));
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_holds_an_object_until_it_is_taken_and_no_other_is_added() {
    let (_, client) = server();
    let api: Api<Session> = Api::namespaced(client, "demo");
    let mut held = session("a");
    held.metadata.finalizers = Some(vec!["berth.dev/session".into()]);
    let made = api.create(&PostParams::default(), &held).await.unwrap();
    let going = api.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert!(going.metadata.deletion_timestamp.is_some());
    assert_eq!((made.metadata.generation, going.metadata.generation), (Some(1), Some(2)));
    let more = merge(json!({"metadata": {"finalizers": ["berth.dev/session", "berth.dev/other"]}}));
    assert_eq!(code(api.patch("a", &PatchParams::default(), &more).await), (422, "Invalid".into()));
    let none = merge(json!({"metadata": {"finalizers": null}}));
    api.patch_metadata("a", &PatchParams::default(), &none).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_status_and_the_rest_are_written_apart_and_the_spec_is_counted() {
    let (_, client) = server();
    let api: Api<Session> = Api::namespaced(client, "demo");
    let mut first = session("a");
    first.status = Some(of(json!({"message": "mine"})));
    let made = api.create(&PostParams::default(), &first).await.unwrap();
    let status = made.status.unwrap();
    assert_eq!(status.message, None, "a status is not made with the object");
    assert_eq!(status.observed_generation, Some(berth::api::NOT_OBSERVED), "but for its default");
    let both = merge(
        json!({"metadata": {"labels": {"x": "y"}}, "spec": {"desiredState": "Terminated"}, "status": {"message": "seen", "phase": "Active"}}),
    );
    let status = api.patch_status("a", &PatchParams::default(), &both).await.unwrap();
    assert_eq!(status.status.as_ref().unwrap().message.as_deref(), Some("seen"));
    assert_eq!((status.metadata.generation, status.labels().len()), (Some(1), 0));
    assert_eq!(status.spec.desired_state, berth::api::session::DesiredState::Connected);
    let spec = api
        .patch(
            "a",
            &PatchParams::default(),
            &merge(json!({"spec": {"desiredState": "Disconnected"}, "status": {"message": "no"}})),
        )
        .await
        .unwrap();
    assert_eq!(spec.metadata.generation, Some(2));
    assert_eq!(spec.status.unwrap().message.as_deref(), Some("seen"));
}

#[tokio::test(start_paused = true)]
async fn our_kinds_are_checked_by_their_definitions() {
    let (_, client) = server();
    let api: Api<Session> = Api::namespaced(client, "demo");
    let made = api.create(&PostParams::default(), &session("a")).await.unwrap();
    assert_eq!(made.spec.when_full, berth::api::session::WhenFull::Queue);
    let other = merge(json!({"spec": {"user": {"id": "bob"}}}));
    let Err(kube::Error::Api(status)) = api.patch("a", &PatchParams::default(), &other).await else {
        panic!("another user was taken")
    };
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let cause = &status.details.as_ref().unwrap().causes[0];
    assert_eq!((cause.field.as_str(), cause.reason.as_str()), ("spec", "FieldValueInvalid"));
    assert!(cause.message.contains("spec.user cannot be changed"), "{}", cause.message);
    let end = merge(json!({"status": {"phase": "Failed", "endedAt": "2026-01-01T00:00:00Z"}}));
    api.patch_status("a", &PatchParams::default(), &end).await.unwrap();
    let live = merge(json!({"status": {"phase": "Active", "endedAt": null}}));
    assert_eq!(code(api.patch_status("a", &PatchParams::default(), &live).await), (422, "Invalid".into()));
}

#[tokio::test(start_paused = true)]
async fn a_pod_on_a_node_is_there_until_its_grace_is_over() {
    let (_, client) = server();
    let api: Api<Pod> = Api::namespaced(client, "demo");
    let pod = |node: Option<&str>| -> Pod {
        of(
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i:1"}]}}),
        )
    };
    api.create(&PostParams::default(), &pod(None)).await.unwrap();
    api.delete("p", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("p").await.unwrap().is_none(), "nobody runs it");
    let made = api.create(&PostParams::default(), &pod(Some("n"))).await.unwrap();
    let going = api.delete("p", &DeleteParams::background()).await.unwrap().left().unwrap();
    assert_eq!(going.metadata.deletion_grace_period_seconds, Some(30));
    let again = api.delete("p", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(again.resource_version(), going.resource_version(), "asking again changes nothing");
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    api.delete("p", &now.preconditions(Preconditions { uid: made.uid(), resource_version: None })).await.unwrap();
    assert!(api.get_opt("p").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_list_goes_on_where_its_page_ended_and_as_of_then() {
    let (server, client) = server();
    let api: Api<ConfigMap> = Api::namespaced(client, "demo");
    for name in ["a", "b", "c"] {
        api.create(&PostParams::default(), &map(name, "1")).await.unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (2, Some(1)));
    let token = first.metadata.continue_.unwrap();
    api.delete("c", &DeleteParams::default()).await.unwrap();
    let rest = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    assert_eq!(rest.items[0].name_any(), "c");
    server.compact(server.revision());
    let late = api.list(&ListParams::default().limit(2).continue_token(&token)).await;
    assert_eq!(code(late), (410, "Expired".into()));
    let ones = api.list(&ListParams::default().labels("v=1").fields("metadata.name!=a")).await.unwrap();
    assert_eq!(ones.items.len(), 1);
}

fn told(event: Result<Event<ConfigMap>, watcher::Error>) -> String {
    match event {
        Ok(Event::Init) => "init".into(),
        Ok(Event::InitApply(it)) => format!("init {}", it.name_any()),
        Ok(Event::InitDone) => "done".into(),
        Ok(Event::Apply(it)) => format!("is {}={}", it.name_any(), it.data.unwrap()["v"]),
        Ok(Event::Delete(it)) => format!("gone {}", it.name_any()),
        Err(watcher::Error::WatchError(status)) => format!("error {}", status.code),
        Err(other) => format!("error {other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_what_is_and_what_happens_in_both_ways_to_begin() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let (_, client) = server();
        let api: Api<ConfigMap> = Api::namespaced(client, "demo");
        api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
        let mut events = watcher(api.clone(), config.labels("v=1")).map(told).boxed();
        let seen: Vec<String> = events.by_ref().take(3).collect().await;
        assert_eq!(seen, ["init", "init a", "done"]);
        api.create(&PostParams::default(), &map("b", "1")).await.unwrap();
        api.create(&PostParams::default(), &map("c", "2")).await.unwrap();
        let away = merge(json!({"metadata": {"labels": {"v": "2"}}}));
        api.patch("a", &PatchParams::default(), &away).await.unwrap();
        api.delete("b", &DeleteParams::default()).await.unwrap();
        let seen: Vec<String> = events.take(3).collect().await;
        assert_eq!(seen, ["is b=1", "gone a", "gone b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_before_the_compaction_is_told_so_within_and_lists_anew() {
    let (server, client) = server();
    let api: Api<ConfigMap> = Api::namespaced(client, "demo");
    let wires = Arc::new(Cutter::default());
    server.set_wires(wires.clone());
    let mut events = watcher(api.clone(), watcher::Config::default()).map(told).boxed();
    assert_eq!(events.next().await.unwrap(), "init");
    assert_eq!(events.next().await.unwrap(), "done");
    *wires.0.lock().unwrap() = Some(Passage::Drop);
    api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    // The events are lost; the stream ends in its time, and is taken up again from before the compaction.
    assert!(tokio::time::timeout(Duration::from_secs(1), events.next()).await.is_err());
    api.create(&PostParams::default(), &map("b", "1")).await.unwrap();
    server.compact(server.revision());
    let told = events.by_ref().take(4).collect::<Vec<String>>();
    let seen = tokio::time::timeout(Duration::from_secs(600), told).await.unwrap();
    assert_eq!(seen, ["error 410", "init", "init a", "init b"]);
}

/// Does this to every frame.
#[derive(Default)]
struct Cutter(Mutex<Option<Passage>>);

impl Wires for Cutter {
    fn open(&self, _: &Call) -> Arc<dyn Wire> {
        let first = self.0.lock().unwrap().take();
        Arc::new(CutWire(first))
    }
}

struct CutWire(Option<Passage>);

impl Wire for CutWire {
    fn pass(&self, _: &Frame) -> BoxFuture<'static, Passage> {
        let passage = self.0.unwrap_or(Passage::Deliver);
        Box::pin(async move { passage })
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_is_told_where_it_stands_and_ends_in_its_time() {
    let (_, client) = server();
    let api: Api<ConfigMap> = Api::namespaced(client, "demo");
    let params = kube::api::WatchParams::default().timeout(100);
    let begun = tokio::time::Instant::now();
    let events: Vec<_> = api.watch(&params, "1").await.unwrap().try_collect().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(100));
    let bookmarks = events.iter().filter(|event| matches!(event, kube::api::WatchEvent::Bookmark(_))).count();
    assert_eq!(bookmarks, 2, "one after a minute, one before the end: {events:?}");
}

/// One fate for creates.
struct Befalls(Before, After);

impl Fate for Befalls {
    fn before(&self, call: &Call) -> BoxFuture<'static, Before> {
        let before = if call.verb == Verb::Create { self.0.clone() } else { Before::Pass };
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            before
        })
    }

    fn after(&self, call: &Call, _: &Outcome) -> BoxFuture<'static, After> {
        let after = if call.verb == Verb::Create { self.1.clone() } else { After::Deliver };
        Box::pin(async move { after })
    }
}

#[tokio::test(start_paused = true)]
async fn every_fate_leaves_the_store_as_it_says() {
    let refusal = Refusal::unavailable();
    for (before, after, stands, outcome) in [
        (Before::Pass, After::Deliver, true, "made"),
        (Before::Twice, After::Deliver, true, "409"),
        (Before::Refuse(refusal.clone()), After::Deliver, false, "503"),
        (Before::Disconnect, After::Deliver, false, "broken"),
        (Before::Hang, After::Deliver, false, "nothing"),
        (Before::Pass, After::Replace(refusal), true, "503"),
        (Before::Pass, After::Disconnect, true, "broken"),
        (Before::Pass, After::Hang, true, "nothing"),
    ] {
        let (server, client) = server();
        let api: Api<ConfigMap> = Api::namespaced(client, "demo");
        server.set_fate(Arc::new(Befalls(before.clone(), after.clone())));
        let (post, wanted) = (PostParams::default(), map("a", "1"));
        let made = api.create(&post, &wanted);
        let got = match tokio::time::timeout(Duration::from_secs(5), made).await {
            Err(_) => "nothing".to_owned(),
            Ok(Ok(_)) => "made".to_owned(),
            Ok(Err(kube::Error::Api(status))) => status.code.to_string(),
            Ok(Err(_)) => "broken".to_owned(),
        };
        assert_eq!(got, outcome, "{before:?} {after:?}");
        assert_eq!(server.object("configmaps", "demo", "a").is_some(), stands, "{before:?} {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_on_after_its_caller_has_given_it_up() {
    let (server, client) = server();
    let api: Api<ConfigMap> = Api::namespaced(client, "demo");
    server.set_fate(Arc::new(Befalls(Before::Pass, After::Deliver)));
    let (post, wanted) = (PostParams::default(), map("a", "1"));
    let made = api.create(&post, &wanted);
    assert!(tokio::time::timeout(Duration::from_secs(1), made).await.is_err());
    assert!(server.object("configmaps", "demo", "a").is_none());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(server.object("configmaps", "demo", "a").is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_in_a_namespace_that_is_not_there_or_is_going() {
    let (_, client) = server();
    let there: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let nowhere: Api<ConfigMap> = Api::namespaced(client.clone(), "nowhere");
    assert_eq!(code(nowhere.create(&PostParams::default(), &map("a", "1")).await), (404, "NotFound".into()));
    there.delete("demo", &DeleteParams::default()).await.unwrap();
    let going: Api<ConfigMap> = Api::namespaced(client, "demo");
    assert_eq!(code(going.create(&PostParams::default(), &map("a", "1")).await), (403, "Forbidden".into()));
}
