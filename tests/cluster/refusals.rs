//! What bad input gets. One table, in the modules below, of what is written, who refuses it and in which words; it is
//! both what these tests hold against a real API server and docs/refusals.md, which is made from it.

mod page;
mod policy;
mod session;
mod template;
mod workspace;

use berth::api::condition::{self, Status, Type};
use berth::api::session::Phase;
use berth::api::workspace::WorkspacePhase;
use berth::api::{Session, SessionPolicy, Workspace};
use serde_json::{Value, json};

use crate::harness::{Scene, merged, phase, pod_spec, status};

/// One thing that is wrong.
pub struct Row {
    /// What it is, in words.
    pub wrong: &'static str,
    /// How it is written, in YAML, over an object that is right otherwise. `a×254` stands for that many letters.
    pub written: &'static str,
    /// Who refuses it.
    pub by: By,
    /// The message. Where the operator quotes the name of what it would make, that ends in `…`.
    pub says: &'static str,
}

/// Who refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The API server, by the types, bounds and fields of the schema.
    Schema,
    /// The API server, by a rule of the schema that is ours.
    Rule,
    /// The operator, by conditions and an event.
    Operator,
    /// kubectl, before anything is sent.
    Kubectl,
}

/// What is done with the rows of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// An object of this kind is created.
    Create(&'static str),
    /// This session is patched, or its status.
    Edit(&'static str, &'static str),
    /// The status of this session is replaced.
    Replace(&'static str),
    /// This Workspace is patched.
    EditWorkspace(&'static str),
    /// A Workspace is created, and the operator looks at its template.
    Template,
    /// A Session is created, and the operator looks at what it names.
    Reference,
    /// kubectl is given the object.
    Kubectl,
}

/// Rows of one kind.
struct Section {
    title: &'static str,
    act: Act,
    rows: &'static [Row],
}

const TABLE: [Section; 13] = [
    Section { title: "Sessions", act: Act::Create("Session"), rows: session::CREATED },
    Section { title: "Workspaces", act: Act::Create("Workspace"), rows: workspace::CREATED },
    Section { title: "SessionPolicies", act: Act::Create("SessionPolicy"), rows: policy::CREATED },
    Section { title: "Edits of a live Session", act: Act::Edit("live", ""), rows: session::LIVE_EDITED },
    Section {
        title: "What observers write into a live Session's status",
        act: Act::Edit("live", "/status"),
        rows: session::LIVE_OBSERVED,
    },
    Section {
        title: "Edits of the request that a Session end",
        act: Act::Edit("requested", "/status"),
        rows: session::END_REQUESTED,
    },
    Section { title: "Edits of an ended Session", act: Act::Edit("ended", ""), rows: session::ENDED_EDITED },
    Section {
        title: "Edits of an ended Session's status",
        act: Act::Edit("ended", "/status"),
        rows: session::ENDED_REWRITTEN,
    },
    Section {
        title: "Replacements of an ended Session's status",
        act: Act::Replace("ended"),
        rows: session::ENDED_REPLACED,
    },
    Section { title: "Edits of a Workspace", act: Act::EditWorkspace("plain"), rows: workspace::EDITED },
    Section { title: "Templates of Workspaces", act: Act::Template, rows: template::TEMPLATES },
    Section { title: "Names of what does not exist", act: Act::Reference, rows: session::REFERRING },
    Section { title: "Versions and kinds", act: Act::Kubectl, rows: session::THROUGH_KUBECTL },
];

/// What the API server adds where the schema itself is violated; it says nothing about the object.
const NOT_CHECKED: &str = ", <nil>: Invalid value: null: some validation rules were not checked because the object was \
                           invalid; correct the existing errors to complete validation]";

#[test]
fn the_table_has_no_row_twice() {
    for section in &TABLE {
        for (index, row) in section.rows.iter().enumerate() {
            let twin =
                section.rows[..index].iter().any(|other| other.written == row.written || other.wrong == row.wrong);
            assert!(!twin, "{}: {}", section.title, row.written);
        }
    }
    let rows: usize = TABLE.iter().map(|section| section.rows.len()).sum();
    assert!(rows >= 45, "{rows} rows");
}

#[tokio::test]
async fn the_api_server_refuses_what_is_wrong_in_words_that_say_what_to_write() {
    let scene = Scene::new("refused").await;
    let mut wrong = Vec::new();
    plain_workspace(&scene).await;
    live_and_ended(&scene).await;
    for section in &TABLE {
        for row in section.rows {
            let answer = match section.act {
                Act::Create(kind) => create(&scene, kind, &fragment(row.written)).await,
                Act::Edit(session, part) => {
                    edit(&scene, "Session", &format!("{session}{part}"), &fragment(row.written)).await
                }
                Act::EditWorkspace(name) => edit(&scene, "Workspace", name, &fragment(row.written)).await,
                Act::Replace(session) => replace(&scene, session, &fragment(row.written)).await,
                Act::Template | Act::Reference | Act::Kubectl => continue,
            };
            compare(row, &answer, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    stops_nobody_else(&scene).await;
}

#[tokio::test]
async fn what_only_the_cluster_can_know_is_told_on_that_object_alone() {
    let scene = Scene::new("told").await;
    let mut wrong = Vec::new();
    plain_workspace(&scene).await;
    let rows = rows_of(Act::Template);
    for (index, row) in rows.iter().enumerate() {
        let mut body = object("Workspace", &fragment(row.written));
        body["metadata"]["name"] = json!(format!("bad-{index}"));
        scene.create::<Workspace>(body).await;
    }
    for (index, row) in rows.iter().enumerate() {
        compare(row, &template_refusal(&scene, &format!("bad-{index}")).await, &mut wrong);
    }
    for (index, row) in rows_of(Act::Reference).iter().enumerate() {
        compare(row, &reference_refusal(&scene, &format!("lost-{index}"), &fragment(row.written)).await, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    stops_nobody_else(&scene).await;
    let healthy = scene.find::<Workspace>("plain").await.and_then(|workspace| workspace.status).unwrap_or_default();
    assert!(condition::is_true(&healthy.conditions, Type::TemplateValid), "{healthy:?}");
}

#[tokio::test]
async fn names_and_texts_at_their_limits_are_accepted_and_launched() {
    let scene = Scene::new("limits").await;
    let name = "w".repeat(253);
    let template = json!({ "spec": pod_spec(json!({})) });
    let workspace = json!({
        "metadata": { "name": name },
        "spec": { "type": "web", "access": { "protocol": "HTTP", "port": 8080, "path": "/".to_owned() + &"p".repeat(511) },
                  "displayName": "é".repeat(128), "description": "d".repeat(1024), "maxSessions": 10000, "template": template },
    });
    scene.create::<Workspace>(workspace).await;
    let session = json!({
        "metadata": { "name": "s".repeat(253) },
        "spec": { "workspaceRef": { "name": name }, "idle": { "disconnectAfter": "8760h" },
                  "keepAliveAt": "2026-01-31T12:00:00.123456789+23:59",
                  "user": { "id": "ü".repeat(253), "email": format!("a@{}", "b".repeat(252)), "displayName": "\u{200d}".repeat(128) } },
    });
    scene.create::<Session>(session).await;
    let longest = json!({
        "metadata": { "name": "p".repeat(253) },
        "spec": { "maxDuration": "8760h", "idle": { "after": "1s", "warnAfter": "1s", "disconnectAfter": "2s" } },
    });
    scene.create::<SessionPolicy>(longest).await;
    scene.phase(&"s".repeat(253), Phase::Active).await;
}

#[tokio::test]
async fn kubectl_refuses_a_version_that_is_not_served_and_a_kind_that_does_not_exist() {
    let scene = Scene::new("kubectl").await;
    let mut wrong = Vec::new();
    for row in rows_of(Act::Kubectl) {
        let body = object("Session", &fragment(row.written));
        compare(row, &kubectl(&scene.namespace, &body.to_string()), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn rows_of(act: Act) -> &'static [Row] {
    TABLE.iter().find(|section| section.act == act).map(|section| section.rows).unwrap()
}

fn compare(row: &Row, answer: &Result<(), String>, wrong: &mut Vec<String>) {
    match answer {
        Ok(()) => wrong.push(format!("{} was accepted: {}", row.wrong, row.written)),
        Err(said) if *said != expanded(row.says) => {
            wrong.push(format!("{}: {}\n  is to say {}\n  but says  {said}", row.wrong, row.written, row.says));
        }
        Err(_) => {}
    }
}

/// `a×254` spelled out.
fn expanded(text: &str) -> String {
    let mut parts = text.split('×');
    let mut whole = parts.next().unwrap().to_owned();
    for part in parts {
        let end = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
        let letter = whole.pop().unwrap();
        whole.extend(std::iter::repeat_n(letter, part[..end].parse().unwrap()));
        whole.push_str(&part[end..]);
    }
    whole
}

fn fragment(written: &str) -> Value {
    serde_saphyr::from_str(&expanded(written)).unwrap_or_else(|error| panic!("{written}: {error}"))
}

/// An object that is right but for `over`.
fn object(kind: &str, over: &Value) -> Value {
    let spec = match kind {
        "Session" => json!({ "workspaceRef": { "name": "plain" }, "user": { "id": "ada" } }),
        "Workspace" => json!({
            "type": "linux", "access": { "protocol": "HTTP", "port": 8080 },
            "template": { "spec": { "containers": [{ "name": "main", "image": "box" }] } },
        }),
        _ => json!({}),
    };
    let base =
        json!({ "apiVersion": "berth.dev/v1alpha1", "kind": kind, "metadata": { "name": "refused" }, "spec": spec });
    without_nulls(merged(base, over.clone()))
}

/// Leaves out what is null: in the table that stands for a field that was not written.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        other => other,
    }
}

async fn plain_workspace(scene: &Scene) {
    scene.workspace("plain", json!({ "maxSessions": 100 })).await;
}

/// A session that lives, one that has ended, and one that ended on its observer's request, with the names that the table has for them.
async fn live_and_ended(scene: &Scene) {
    let live = json!({ "keepAliveAt": "2026-01-31T12:00:00Z", "client": { "device": "laptop" } });
    scene.session("live", "plain", live).await;
    scene.session("ended", "plain", json!({ "desiredState": "Disconnected" })).await;
    scene.phase("live", Phase::Active).await;
    scene.phase("ended", Phase::Disconnected).await;
    scene.session("requested", "plain", json!({})).await;
    scene.phase("requested", Phase::Active).await;
    let request = json!({ "endRequest": { "as": "Terminated", "reason": "PolicyViolation", "actor": "gateway" } });
    scene.observe("requested", request).await.unwrap();
    scene.phase("requested", Phase::Terminated).await;
}

/// A plain session in the same namespace, after all that was wrong.
async fn stops_nobody_else(scene: &Scene) {
    scene.session("plain", "plain", json!({})).await;
    scene.phase("plain", Phase::Active).await;
}

fn path(scene: &Scene, kind: &str) -> String {
    let plural = match kind {
        "Session" => "sessions",
        "Workspace" => "workspaces",
        _ => "sessionpolicies",
    };
    format!("/apis/berth.dev/v1alpha1/namespaces/{}/{plural}", scene.namespace)
}

/// Sends the request as kubectl does, which asks for unknown fields to be refused; the message of a refusal.
async fn send(scene: &Scene, method: &str, path: &str, content: &str, body: &Value) -> Result<(), String> {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{path}?fieldValidation=Strict"))
        .header("content-type", content)
        .body(body.to_string().into_bytes())
        .unwrap();
    match scene.client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(refusal)) => Err(bare(&refusal.message)),
        Err(error) => panic!("{path}: {error}"),
    }
}

/// The message without the name of the object and without [`NOT_CHECKED`].
fn bare(message: &str) -> String {
    let about = message.split_once("\" is invalid: ").filter(|(head, _)| head.contains(".berth.dev \""));
    let words = about.map_or(message, |(_, words)| words);
    let alone = words.strip_prefix('[').and_then(|words| words.strip_suffix(NOT_CHECKED));
    alone.unwrap_or(words).to_owned()
}

async fn create(scene: &Scene, kind: &str, over: &Value) -> Result<(), String> {
    send(scene, "POST", &path(scene, kind), "application/json", &object(kind, over)).await
}

async fn edit(scene: &Scene, kind: &str, part: &str, patch: &Value) -> Result<(), String> {
    let path = format!("{}/{part}", path(scene, kind));
    send(scene, "PATCH", &path, "application/merge-patch+json", patch).await
}

async fn replace(scene: &Scene, session: &str, over: &Value) -> Result<(), String> {
    let mut body = serde_json::to_value(scene.find::<Session>(session).await.unwrap()).unwrap();
    body["status"] = over["status"].clone();
    let path = format!("{}/{session}/status", path(scene, "Session"));
    send(scene, "PUT", &path, "application/json", &without_nulls(body)).await
}

/// What the operator says of the Workspace's template, in a condition and an event; a session of that Workspace
/// waits and says the same.
async fn template_refusal(scene: &Scene, workspace: &str) -> Result<(), String> {
    let sentence = format!("Workspace {workspace} was looked at");
    let found = scene
        .eventually(&sentence, || async {
            let status = scene.find::<Workspace>(workspace).await?.status?;
            let valid = condition::find(&status.conditions, Type::TemplateValid)?.clone();
            (valid.status != Status::Unknown).then_some(valid)
        })
        .await;
    if found.status == Status::True {
        return Ok(());
    }
    let event = scene.event(workspace, "TemplateInvalid").await;
    assert_eq!(event.note.as_deref(), Some(found.message.as_str()), "{workspace}");
    scene.session(workspace, workspace, json!({})).await;
    let waiting = waiting(scene, workspace).await;
    assert_eq!(waiting, ("TemplateInvalid".to_owned(), format!("waiting for a valid template: {}", found.message)));
    Err(unnamed(&found.message, workspace))
}

/// What the operator says of a session that names what does not exist.
async fn reference_refusal(scene: &Scene, session: &str, over: &Value) -> Result<(), String> {
    if let Some(policy) = over["policyRef"].as_object() {
        // Under a name of its own, for it has an event of the same reason; and known before anybody asks for it.
        let workspace = format!("{session}-box");
        scene.workspace(&workspace, json!({ "policyRef": policy })).await;
        scene.workspace_phase(&workspace, WorkspacePhase::Unavailable).await;
        scene.session(session, &workspace, json!({})).await;
    } else {
        let mut body = object("Session", over);
        body["metadata"]["name"] = json!(session);
        scene.create::<Session>(body).await;
    }
    let (reason, message) = waiting(scene, session).await;
    let event = scene.event(session, &reason).await;
    assert_eq!(event.note.as_deref(), Some(message.as_str()), "{session}");
    Err(message)
}

/// Why the session waits: reason and message of its condition.
async fn waiting(scene: &Scene, session: &str) -> (String, String) {
    let admitted = scene.condition(session, Type::Admitted, Status::False).await;
    let found = scene.find::<Session>(session).await.unwrap();
    assert_eq!((phase(&found), status(&found).ended_at), (Some(Phase::Pending), None), "{session}");
    (admitted.reason, admitted.message)
}

/// The message without the part of a name that is another each time.
fn unnamed(message: &str, workspace: &str) -> String {
    let Some((head, tail)) = message.split_once(&format!("\"{workspace}-")) else { return message.to_owned() };
    let Some((name, tail)) = tail.split_once('"') else { return message.to_owned() };
    let kept = name.rfind('-').map_or("", |dash| &name[..=dash]);
    format!("{head}\"NAME-{kept}…\"{tail}")
}

fn kubectl(namespace: &str, body: &str) -> Result<(), String> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new("kubectl")
        .args(["create", "--namespace", namespace, "--filename", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("kubectl is on the PATH of `cargo xtask cluster env`: {error}"));
    child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ").replace(namespace, "NAMESPACE");
    if output.status.success() { Ok(()) } else { Err(said) }
}
