//! Bodies of the fuzz targets about what a person wrote into a template and what a pod says. Owns what must hold of the
//! answers; sessions and Workspaces have files of their own.

pub mod sessions;
pub mod workspaces;
pub mod worlds;

use crate::api::pod::Pod;
use serde_json::{Value, json};

use crate::api::fuzzing::{is_written_alike, settles};
use crate::api::workspace::Template;
use crate::api::{SESSION_UID_LABEL, Session, SessionStatus, Workspace};
use crate::plan::hardening::Hardening;
use crate::plan::instance::{self, Health};
use crate::plan::{contract, pod, shorten, template, trace};

/// What the note of an event and the message of a condition hold, in bytes: the first is the smaller.
pub const MOST: usize = 1024;

/// A template that passes makes a pod that reaches for nothing of the node's, by a look at what is sent that shares no
/// code with the check; one that does not is refused in words that fit, and always the same.
///
/// # Panics
/// When one of these does not hold.
pub fn templates(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    let Some(read) = settles::<Template>(&value) else { return };
    let hardening = Hardening::default();
    let checked = template::check(&read, &hardening);
    assert_eq!(checked, template::check(&read, &hardening), "another answer at the second time");
    let around = around(&read);
    assert!(around.is_some(), "a template that was read cannot be read in its Workspace");
    let Some((session, workspace)) = around else { return };
    let made = pod::for_session(&session, &workspace, &read, &hardening);
    match checked {
        Ok(()) => {
            assert_eq!(reach(&made), Vec::<String>::new(), "{made}");
            // What the API server is asked about is what will be made, but for names.
            let asked = pod::for_dry_run(&workspace, &read, &hardening);
            assert!(asked.iter().all(|object| reach(object).is_empty()), "{asked:?}");
            assert_eq!(asked.iter().map(kind).filter(|kind| *kind == "Pod").count(), 1);
        }
        Err(words) => {
            assert!(words.starts_with("spec.template."), "{words}");
            assert!(words.len() <= MOST, "{} bytes: {words}", words.len());
        }
    }
    is_adopted_alike(&session, &workspace, &read, &hardening, &made);
    // What a template writes never goes over what the operator marks its pods with.
    assert_eq!(made["metadata"]["labels"][SESSION_UID_LABEL], "s");
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "s");
    assert_eq!(made["spec"]["automountServiceAccountToken"], false);
}

/// A pod of a pool that is made a session's is what would have been made for it, but for its name: whatever a template says, a
/// user has the same either way.
fn is_adopted_alike(session: &Session, workspace: &Workspace, read: &Template, hardening: &Hardening, made: &Value) {
    if !contract::personal_problems(read).is_empty() {
        return;
    }
    let mut adopted = pod::for_pool(workspace, read, hardening);
    let personal = pod::personal(session, workspace, read);
    for kind in ["labels", "annotations"] {
        for (key, value) in personal[kind].as_object().into_iter().flatten() {
            adopted["metadata"][kind][key] = value.clone();
        }
    }
    adopted["metadata"]["ownerReferences"] = personal["ownerReferences"].clone();
    adopted["metadata"]["name"] = made["metadata"]["name"].clone();
    assert_eq!(adopted, *made, "a user has something else by way of a pool");
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

/// The Workspace that has this template, and a Session of it.
fn around(template: &Template) -> Option<(Session, Workspace)> {
    let session = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Session",
        "metadata": {"name": "mine", "namespace": "n", "uid": "s"},
        "spec": {"workspaceRef": {"name": "box"}, "user": {"id": "ana"}},
    });
    let workspace = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "box", "namespace": "n", "uid": "w"},
        "spec": {"type": "web", "access": {"protocol": "HTTP", "port": 80}, "template": template},
    });
    Some((is_written_alike(&session)?, is_written_alike(&workspace)?))
}

/// What in a pod, as it is sent, reaches for the node or for a credential.
fn reach(pod: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let mut found = Vec::new();
    let mut note = |wrong: bool, what: &str| {
        if wrong {
            found.push(what.to_owned());
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC", "automountServiceAccountToken"] {
        note(spec[field] == true, field);
    }
    note(!spec["nodeName"].is_null(), "nodeName");
    for volume in items(&spec["volumes"]) {
        note(!volume["hostPath"].is_null(), "hostPath");
        for source in items(&volume["projected"]["sources"]) {
            note(!source["serviceAccountToken"].is_null() || !source["podCertificate"].is_null(), "token");
        }
    }
    walls(&spec["securityContext"], &mut note);
    // Of a pod alone: a container has no such field.
    let mut sysctls = items(&spec["securityContext"]["sysctls"]);
    note(sysctls.any(|sysctl| sysctl["name"] == "kernel.msgmax"), "sysctls");
    // The API server takes no pod that has ephemeral containers from its beginning.
    for container in ["containers", "initContainers"].iter().flat_map(|list| items(&spec[*list])) {
        let security = &container["securityContext"];
        walls(security, &mut note);
        note(security["privileged"] == true, "privileged");
        note(security["allowPrivilegeEscalation"] == true, "allowPrivilegeEscalation");
        if spec["os"]["name"] != "windows" {
            let says = |field: &str| !security[field].is_null() || !spec["securityContext"][field].is_null();
            note(!says("seccompProfile"), "no seccompProfile");
            note(security["allowPrivilegeEscalation"] != false, "allowPrivilegeEscalation unwritten");
            note(!items(&security["capabilities"]["drop"]).any(|name| name == "ALL"), "capabilities kept");
        }
        let is_unwritten = |name: &str| security[name].is_null() && spec["securityContext"][name].is_null();
        note(is_unwritten("runAsNonRoot"), "no runAsNonRoot");
        note(security["procMount"].as_str().is_some_and(|mount| mount != "Default"), "procMount");
        note(items(&security["capabilities"]["add"]).any(|added| added != "NET_BIND_SERVICE"), "capabilities");
        note(items(&container["ports"]).any(|port| port["hostPort"].as_i64().unwrap_or_default() != 0), "hostPort");
        note(container["image"].as_str().is_none_or(str::is_empty), "no image");
        for asked in ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]) {
            note(names_host(asked), "host of a probe");
        }
        for asked in ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]) {
            note(names_host(asked), "host of a hook");
        }
    }
    found
}

fn walls(security: &Value, note: &mut impl FnMut(bool, &str)) {
    note(security["runAsNonRoot"] == false || security["runAsUser"] == 0, "root");
    note(security["seccompProfile"]["type"] == "Unconfined", "seccompProfile");
    note(security["appArmorProfile"]["type"] == "Unconfined", "appArmorProfile");
    note(security["windowsOptions"]["hostProcess"] == true, "hostProcess");
    for field in ["user", "role"] {
        note(security["seLinuxOptions"][field].as_str().is_some_and(|name| !name.is_empty()), "seLinuxOptions");
    }
}

fn names_host(asked: &Value) -> bool {
    ["httpGet", "tcpSocket"].iter().any(|way| asked[*way]["host"].as_str().is_some_and(|host| !host.is_empty()))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Whatever a pod says has one answer, in words that fit; a launch that is told of it has spans that lie within it.
///
/// The input is two objects: a pod, and the session that it serves.
///
/// # Panics
/// When one of these does not hold.
pub fn instances(data: &[u8]) {
    let Ok([pod, session]) = serde_json::from_slice::<[Value; 2]>(data) else { return };
    let Some(pod) = is_written_alike::<Pod>(&pod) else { return };
    let health = instance::health(&pod);
    assert_eq!(health, instance::health(&pod));
    let words = match &health {
        Health::Coming | Health::Usable => "",
        Health::Lost(why) => why,
        Health::Troubled(trouble) => &trouble.message,
    };
    assert!(words.len() <= MOST, "{} bytes: {words}", words.len());
    assert_eq!(shorten(words), words, "what was shortened is short");
    let going = pod.metadata.deletion_timestamp.is_some();
    assert!(!going || matches!(health, Health::Lost(_)), "a deletion cannot be taken back: {health:?}");
    let described = instance::describe(&pod);
    assert_eq!(Some(&described.uid), pod.metadata.uid.as_ref().or(Some(&String::new())));
    if let Some(url) = instance::url(&pod) {
        assert!(url.contains("://") && described.ip.is_some(), "{url}");
    }
    let Some(session) = is_written_alike::<Session>(&session) else { return };
    let of_it = session.metadata.uid.as_deref().unwrap_or_default();
    let controller = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let foreign = pod.metadata.owner_references.iter().flatten().all(|owner| owner.uid != of_it);
    assert!(!(pod::belongs(&pod, of_it) && controller.is_some() && foreign), "a pod that another controls is taken");
    spans(&session, &pod);
}

fn spans(session: &Session, pod: &Pod) {
    let told = trace::launch(&SessionStatus::default(), session, Some(pod));
    assert_eq!(told, trace::launch(&SessionStatus::default(), session, Some(pod)), "a launch is told alike twice");
    let Some((root, parts)) = told.split_first() else { return };
    assert!(root.parent.is_none() && root.start <= root.end && root.trace != 0 && root.id != 0);
    for part in parts {
        assert!(part.parent == Some(root.id) && part.trace == root.trace && part.id != 0, "{part:?}");
        assert!(root.start <= part.start && part.start <= part.end && part.end <= root.end, "{part:?} in {root:?}");
    }
    let user = session.spec.user.id.as_str();
    let tells = |value: &trace::Value| matches!(value, trace::Value::Text(text) if text == user);
    // A name of a person may be that of something else too, but for one that nothing else can be called.
    let told = told.iter().any(|span| span.attributes.iter().any(|(_, value)| tells(value)));
    assert!(!told || !user.contains('@'), "a collector is told of {user}");
}
