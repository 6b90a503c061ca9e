//! How what the watches bring and what the operator wrote are merged: what goes wrong there is made good so soon that no trial
//! sees it.

use berth::api::SESSION_UID_LABEL;
use berth::api::pod::Pod;
use berth::cluster::cache::Stores;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::Event;
use serde_json::json;

fn pod(version: &str, session: &str) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "resourceVersion": version, "labels": {SESSION_UID_LABEL: session}}}))
        .unwrap_or_default()
}

fn unreadable(uid: &str) -> InvalidObject {
    let metadata = ObjectMeta {
        name: Some("p".to_owned()),
        namespace: Some("n".to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectMeta::default()
    };
    InvalidObject { error: "no such phase".to_owned(), metadata }
}

fn pod_of(uid: &str, version: &str) -> Pod {
    let mut pod = pod(version, "s");
    pod.metadata.uid = Some(uid.to_owned());
    pod
}

fn seen(stores: &Stores) -> Option<String> {
    stores.pods.get("n", "p").and_then(|pod| pod.resource_version())
}

#[test]
fn what_we_wrote_is_seen_at_once_and_an_older_event_does_not_undo_it() {
    let stores = Stores::default();
    stores.pods.own(pod("10", "s"));
    stores.pods.take(&None, &Event::Apply(pod("9", "s")));
    assert_eq!(seen(&stores).as_deref(), Some("10"));
    assert_eq!(stores.pods.under("s").len(), 1);
}

#[test]
fn an_answer_that_comes_after_the_deletion_does_not_bring_an_object_back() {
    let stores = Stores::default();
    stores.pods.take(&None, &Event::Apply(pod("10", "s")));
    stores.pods.take(&None, &Event::Delete(pod("12", "s")));
    stores.pods.own(pod("11", "s"));
    assert_eq!(seen(&stores), None);
    assert!(stores.pods.under("s").is_empty());
}

#[test]
fn a_deletion_does_not_take_what_was_created_anew_since() {
    let stores = Stores::default();
    stores.pods.own(pod("20", "s"));
    stores.pods.take(&None, &Event::Delete(pod("15", "s")));
    assert_eq!(seen(&stores).as_deref(), Some("20"));
}

#[test]
fn what_we_wrote_during_a_list_outlives_it() {
    let stores = Stores::default();
    stores.pods.take(&None, &Event::Init);
    stores.pods.take(&None, &Event::InitApply(pod("5", "s")));
    stores.pods.own(pod("7", "s"));
    stores.pods.take(&None, &Event::InitDone);
    assert_eq!(seen(&stores).as_deref(), Some("7"));
    assert_eq!(stores.pods.under("s").len(), 1);
}

#[test]
fn what_cannot_be_read_any_more_holds_what_it_held_until_it_is_gone() {
    let stores = Stores::default();
    stores.pods.take(&None, &Event::Apply(pod_of("a", "10")));
    let object = unreadable("a");
    assert!(stores.pods.take_unreadable(&None, &object).is_news);
    assert_eq!(stores.pods.why_unreadable("n", "p").as_deref(), Some("no such phase"));
    assert_eq!(stores.pods.under("s").len(), 1);
    // Also over a list, which has it and cannot read it.
    stores.pods.take(&None, &Event::Init);
    assert!(stores.pods.why_unreadable("n", "p").is_some(), "before the list was read");
    assert!(!stores.pods.take_unreadable(&None, &object).is_news, "no news");
    stores.pods.take(&None, &Event::InitDone);
    assert_eq!((stores.pods.why_unreadable("n", "p").is_some(), stores.pods.under("s").len()), (true, 1));
    assert!(stores.pods.unknown_in("n").is_empty());
    assert!(stores.pods.forget(&object.metadata).is_some());
    assert_eq!((stores.pods.why_unreadable("n", "p"), seen(&stores)), (None, None));
    assert!(stores.pods.under("s").is_empty());
}

#[test]
fn what_cannot_be_read_and_is_in_no_list_any_more_is_gone() {
    let stores = Stores::default();
    stores.pods.take(&None, &Event::Apply(pod_of("a", "10")));
    stores.pods.take_unreadable(&None, &unreadable("a"));
    stores.pods.take(&None, &Event::Init);
    stores.pods.take(&None, &Event::InitDone);
    assert_eq!((stores.pods.why_unreadable("n", "p"), seen(&stores)), (None, None));
}

#[test]
fn what_we_deleted_during_a_list_that_lacks_it_is_gone() {
    let stores = Stores::default();
    stores.pods.take(&None, &Event::Apply(pod("3", "s")));
    stores.pods.take(&None, &Event::Init);
    let mut going = pod("9", "s");
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Default::default()));
    going.metadata.deletion_grace_period_seconds = Some(30);
    stores.pods.own(going);
    stores.pods.take(&None, &Event::InitDone);
    assert_eq!(seen(&stores), None);
}

#[test]
fn a_list_of_one_namespace_leaves_the_others_alone() {
    let stores = Stores::default();
    let scope = |name: &str| Some(name.to_owned());
    let of = |namespace: &str, version: &str| {
        let mut pod = pod(version, namespace);
        pod.metadata.namespace = Some(namespace.to_owned());
        pod
    };
    for namespace in ["n", "m"] {
        stores.pods.take(&scope(namespace), &Event::Init);
        stores.pods.take(&scope(namespace), &Event::InitApply(of(namespace, "30")));
        stores.pods.take(&scope(namespace), &Event::InitDone);
    }
    assert_eq!((stores.pods.under("n").len(), stores.pods.under("m").len()), (1, 1));
    stores.pods.take(&scope("m"), &Event::Init);
    stores.pods.take(&scope("m"), &Event::InitDone);
    assert_eq!((stores.pods.under("n").len(), stores.pods.under("m").len()), (1, 0));
    // How far one watch has come says nothing about the other's namespace.
    stores.pods.take(&scope("n"), &Event::Apply(of("n", "90")));
    stores.pods.own(of("m", "40"));
    assert_eq!(stores.pods.under("m").len(), 1);
}

#[test]
fn a_list_replaces_everything_even_when_versions_go_backward() {
    let stores = Stores::default();
    stores.pods.own(pod("20", "s"));
    stores.pods.take(&None, &Event::Init);
    stores.pods.take(&None, &Event::InitApply(pod("5", "t")));
    stores.pods.take(&None, &Event::InitDone);
    assert_eq!(seen(&stores).as_deref(), Some("5"));
    assert!(stores.pods.under("s").is_empty());
    assert_eq!(stores.pods.under("t").len(), 1);
}

#[test]
fn a_namesake_that_cannot_be_read_is_not_the_object_that_was_known() {
    let stores = Stores::default();
    stores.pods.take(&None, &Event::Apply(pod_of("old", "10")));
    let taken = stores.pods.take_unreadable(&None, &unreadable("new"));
    assert_eq!(taken.replaced.and_then(|gone| gone.uid()).as_deref(), Some("old"));
    assert_eq!((seen(&stores), stores.pods.under("s").len()), (None, 0));
    // The same over a list.
    let stores = Stores::default();
    stores.pods.take(&None, &Event::Apply(pod_of("old", "10")));
    stores.pods.take(&None, &Event::Init);
    stores.pods.take_unreadable(&None, &unreadable("new"));
    stores.pods.take(&None, &Event::InitDone);
    assert_eq!((seen(&stores), stores.pods.under("s").len()), (None, 0));
}

#[test]
fn that_an_object_can_be_read_again_is_told_once() {
    let stores = Stores::default();
    stores.pods.take_unreadable(&None, &unreadable("a"));
    assert!(stores.pods.take(&None, &Event::Apply(pod_of("a", "10"))));
    assert!(!stores.pods.take(&None, &Event::Apply(pod_of("a", "11"))));
}
