//! What an instance is given of Berth, and by what the gateway proves itself to it: the folder /run/berth of every container,
//! and one Secret for each Workspace. docs/images.md tells image authors the same. Owns the names in there and what the
//! Secret holds.

use std::fmt;

use chrono::TimeDelta;
use hmac::{Hmac, KeyInit, Mac};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::api::workspace::{Protocol, Retention, Template};
use crate::api::{SESSION_ANNOTATION, SESSION_UID_LABEL, USER_ANNOTATION, WORKSPACE_ANNOTATION, Workspace};
use crate::hex::hex;
use crate::plan::{child, name};

/// Where an instance finds what it is told.
pub const FOLDER: &str = "/run/berth";
/// The name of the volume there; no template may have one of this name.
pub const VOLUME: &str = "berth";

/// File with the password of VNC. RFB takes no more than eight characters of it (RFC 6143, 7.2.2).
const VNC_PASSWORD: &str = "vnc-password";
/// File with what a proxy sends in the header `Berth-Proxy`.
const PROXY_TOKEN: &str = "proxy-token";
/// File with the keys of those whose certificates SSH trusts, as `TrustedUserCAKeys` has them.
const SSH_USER_CA: &str = "ssh-user-ca.pub";

/// Letters of a password: none that is taken for another.
const LETTERS: &[u8; 56] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// From what the installation's credentials for instances are made.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    master: [u8; 32],
    /// The public keys of the authorities for SSH users, as lines of OpenSSH.
    pub ssh_user_ca: Vec<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keys").field("ssh_user_ca", &self.ssh_user_ca).finish_non_exhaustive()
    }
}

impl Keys {
    /// Keys made from these bytes, of which there must be 32.
    pub fn new(master: &[u8], ssh_user_ca: Vec<String>) -> Option<Self> {
        Some(Self { master: master.try_into().ok()?, ssh_user_ca })
    }

    /// Bytes for one purpose of one Workspace: the same whenever they are asked for, and of no use for another.
    fn derive(&self, purpose: &str, workspace_uid: &str) -> [u8; 32] {
        // A key of any length is one.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.master) else { return [0; 32] };
        for part in [purpose, workspace_uid] {
            mac.update(part.as_bytes());
            mac.update(&[0]);
        }
        mac.finalize().into_bytes().into()
    }

    fn vnc_password(&self, workspace_uid: &str) -> String {
        let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
        self.derive(VNC_PASSWORD, workspace_uid).iter().take(8).map(letter).collect()
    }

    fn proxy_token(&self, workspace_uid: &str) -> String {
        hex(&self.derive(PROXY_TOKEN, workspace_uid))
    }
}

/// The file of the Secret that a protocol has, if it has one.
fn file(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::HTTP => Some(PROXY_TOKEN),
        Protocol::VNC => Some(VNC_PASSWORD),
        Protocol::SSH => Some(SSH_USER_CA),
        Protocol::RDP => None,
    }
}

/// A Secret that shows nothing of what it holds.
#[derive(Clone, Default, PartialEq)]
pub struct Credential(pub Box<Secret>);

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Credential").field(&self.0.metadata.name).finish()
    }
}

/// Whether instances of `workspace` need its Secret.
pub fn needs_secret(workspace: &Workspace) -> bool {
    workspace.spec.template.is_some() && file(workspace.spec.access.protocol).is_some()
}

/// The Secret of `workspace`, which goes with it. It has the files of all protocols: an edit of the Workspace takes none from an
/// instance that lives. And it says the same whenever it is made, so that one that somebody has deleted comes back as it was.
pub fn secret(workspace: &Workspace, keys: &Keys) -> Credential {
    let uid = workspace.uid().unwrap_or_default();
    let authorities: String = keys.ssh_user_ca.iter().map(|line| format!("{line}\n")).collect();
    let files =
        [(VNC_PASSWORD, keys.vnc_password(&uid)), (PROXY_TOKEN, keys.proxy_token(&uid)), (SSH_USER_CA, authorities)];
    Credential(Box::new(Secret {
        metadata: ObjectMeta { owner_references: Some(vec![child::owner(workspace)]), ..child::metadata(workspace) },
        type_: Some("Opaque".to_owned()),
        data: Some(files.map(|(file, content)| (file.to_owned(), ByteString(content.into_bytes()))).into()),
        ..Secret::default()
    }))
}

/// Puts the folder into a PodSpec: into every container, read-only.
pub fn mount(spec: &mut Map<String, Value>, workspace: &Workspace) {
    let field = |path: &str, of: String| json!({ "path": path, "fieldRef": { "fieldPath": of } });
    let annotation = |key: &str| format!("metadata.annotations['{key}']");
    let label = |key: &str| format!("metadata.labels['{key}']");
    let mut sources = vec![json!({ "downwardAPI": { "items": [
        field("user", annotation(USER_ANNOTATION)),
        field("session", annotation(SESSION_ANNOTATION)),
        field("session-uid", label(SESSION_UID_LABEL)),
        field("workspace", annotation(WORKSPACE_ANNOTATION)),
        field("namespace", "metadata.namespace".to_owned()),
    ] } })];
    if let Some(file) = file(workspace.spec.access.protocol) {
        let secret = name::of_workspace(&workspace.name_any(), &workspace.uid().unwrap_or_default());
        sources.push(json!({ "secret": { "name": secret, "items": [{ "key": file, "path": file }] } }));
    }
    push(spec, "volumes", json!({ "name": VOLUME, "projected": { "defaultMode": 0o444, "sources": sources } }));
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for container in containers.filter_map(Value::as_object_mut) {
            push(container, "volumeMounts", json!({ "name": VOLUME, "mountPath": FOLDER, "readOnly": true }));
        }
    }
}

/// Adds to a list, which becomes one if it is unwritten; anything else there is left alone, for others to tell of.
fn push(object: &mut Map<String, Value>, field: &str, item: Value) {
    let list = object.entry(field).or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}

/// An instance that comes for so long may wait for a Secret that somebody has deleted: no pod says so.
pub const SECRET_DOUBT: TimeDelta = TimeDelta::seconds(30);

/// What of `template` is in the way of the folder, in sentences that name the field and the mend.
pub fn problems(template: &Template) -> Vec<String> {
    let named = |list: &Value| list["name"] == VOLUME;
    let mut problems = Vec::new();
    if template.spec.get("volumes").and_then(Value::as_array).into_iter().flatten().any(named) {
        problems.push(format!("spec.template.spec.volumes[{VOLUME}] is reserved: rename it"));
    }
    if template.volume_claims.iter().any(|claim| claim.name.as_str() == VOLUME) {
        problems.push(format!("spec.template.volumeClaims[{VOLUME}] is reserved: rename it"));
    }
    for (at, container) in containers(template) {
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        let paths = mounts.filter_map(|mount| mount["mountPath"].as_str());
        let reserved = |path: &str| format!("{at}.volumeMounts[{path}] is reserved: mount it elsewhere");
        problems.extend(paths.filter(|path| is_within(path)).map(reserved));
    }
    problems
}

/// What of `template` keeps its instances from being made before there is a session: what is fixed at their start and is the
/// user's or the session's, or counts from there. In sentences that name the field and the mend.
pub fn personal_problems(template: &Template) -> Vec<String> {
    let mut problems = Vec::new();
    let volumes = template.spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let told = volumes.filter(|volume| is_told(volume)).filter_map(|volume| volume["name"].as_str());
    let personal: Vec<&str> = told.chain([VOLUME]).collect();
    for (at, container) in containers(template) {
        problems.extend(container["env"].as_array().into_iter().flatten().filter_map(|variable| {
            let file = personal_file(variable["valueFrom"]["fieldRef"]["fieldPath"].as_str()?)?;
            let name = variable["name"].as_str().unwrap_or_default();
            Some(format!("{at}.env[{name}] is set before there is a user: read the file {FOLDER}/{file}"))
        }));
        let is_part = |mount: &&Value| !(mount["subPath"].is_null() && mount["subPathExpr"].is_null());
        let parts = container["volumeMounts"].as_array().into_iter().flatten().filter(is_part);
        let named = parts.filter_map(|mount| mount["name"].as_str()).find(|name| personal.contains(name));
        problems.extend(
            named.map(|name| {
                format!("{at}.volumeMounts[{name}] with a subPath never changes: read the files in {FOLDER}")
            }),
        );
    }
    problems.extend(template.spec.get("activeDeadlineSeconds").filter(|seconds| !seconds.is_null()).map(|_| {
        "spec.template.spec.activeDeadlineSeconds runs while nobody is there: use maxDuration of a SessionPolicy"
            .to_owned()
    }));
    if template.volume_claims.iter().any(|claim| claim.retention == Retention::Retain) {
        // The API server refuses it; an object may be older than its rule.
        problems.push(
            "spec.template.volumeClaims with retention: Retain are their user's: remove the retention".to_owned(),
        );
    }
    problems
}

/// Whether a volume has a file that says what is the user's or the session's.
fn is_told(volume: &Value) -> bool {
    let sources = volume["projected"]["sources"].as_array().into_iter().flatten();
    let told = sources.map(|source| &source["downwardAPI"]).chain([&volume["downwardAPI"]]);
    let mut items = told.flat_map(|told| told["items"].as_array().into_iter().flatten());
    // All of them are told in one file as well.
    let is_personal =
        |path: &str| ["metadata.annotations", "metadata.labels"].contains(&path) || personal_file(path).is_some();
    items.any(|item| item["fieldRef"]["fieldPath"].as_str().is_some_and(is_personal))
}

/// All containers of `template`, each with the name of its field.
fn containers(template: &Template) -> impl Iterator<Item = (String, &Value)> {
    ["initContainers", "containers"].into_iter().flat_map(|list| {
        let containers = template.spec.get(list).and_then(Value::as_array).into_iter().flatten();
        containers.map(move |container| {
            let name = container["name"].as_str().unwrap_or_default();
            (format!("spec.template.spec.{list}[{name}]"), container)
        })
    })
}

/// The file that says what a field of the pod says, where that is the user's or the session's.
fn personal_file(path: &str) -> Option<&'static str> {
    let files = [(USER_ANNOTATION, "user"), (SESSION_ANNOTATION, "session"), (SESSION_UID_LABEL, "session-uid")];
    files.into_iter().find_map(|(key, file)| path.contains(&format!("'{key}'")).then_some(file))
}

/// Whether a path is the folder or in it, however it is written.
fn is_within(path: &str) -> bool {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.starts_with(&["run", "berth"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(uid: &str, protocol: &str) -> Workspace {
        serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace", "metadata": {"name": "box", "namespace": "n", "uid": uid},
            "spec": {
                "type": "web", "access": {"protocol": protocol, "port": 80},
                "template": {"spec": {"containers": [{"name": "main", "image": "box"}]}},
            },
        }))
        .unwrap()
    }

    fn keys(byte: u8) -> Keys {
        Keys::new(&[byte; 32], vec!["ssh-ed25519 AAAA ca".to_owned()]).unwrap()
    }

    fn content(uid: &str, protocol: &str, byte: u8) -> String {
        let workspace = workspace(uid, protocol);
        let file = file(workspace.spec.access.protocol).unwrap();
        String::from_utf8(secret(&workspace, &keys(byte)).0.data.unwrap().remove(file).unwrap().0).unwrap()
    }

    #[test]
    fn a_credential_is_the_same_each_time_and_another_for_each_workspace_purpose_and_installation() {
        for protocol in ["VNC", "HTTP"] {
            assert_eq!(content("a", protocol, 1), content("a", protocol, 1));
            assert_ne!(content("a", protocol, 1), content("b", protocol, 1));
            assert_ne!(content("a", protocol, 1), content("a", protocol, 2));
        }
        assert!(!content("a", "HTTP", 1).starts_with(&content("a", "VNC", 1)));
        assert_eq!((content("a", "VNC", 1).len(), content("a", "HTTP", 1).len()), (8, 64));
        assert_eq!(content("a", "SSH", 1), "ssh-ed25519 AAAA ca\n");
        assert!(!needs_secret(&workspace("a", "RDP")) && needs_secret(&workspace("a", "SSH")));
        let shown = format!("{:?}", secret(&workspace("a", "VNC"), &keys(1)));
        assert!(shown.contains("berth-box") && shown.len() < 60, "{shown}");
        assert!(Keys::new(&[1; 31], Vec::new()).is_none());
        assert!(!format!("{:?}", keys(7)).contains('7'), "the key is not shown");
    }

    #[test]
    fn every_container_has_the_folder_and_the_spec_is_a_pods() {
        let mut spec = json!({
            "initContainers": [{ "name": "first", "image": "i" }],
            "containers": [{ "name": "main", "image": "i", "volumeMounts": [{ "name": "home", "mountPath": "/home" }] }],
            "volumes": null,
        });
        mount(spec.as_object_mut().unwrap(), &workspace("a", "VNC"));
        let spec: k8s_openapi::api::core::v1::PodSpec = serde_json::from_value(spec).unwrap();
        let all = spec.init_containers.iter().flatten().chain(&spec.containers);
        assert!(all.into_iter().all(|it| it.volume_mounts.iter().flatten().any(|mount| mount.mount_path == FOLDER)));
        assert_eq!(spec.containers[0].volume_mounts.as_ref().unwrap().len(), 2);
        let sources = spec.volumes.unwrap().remove(0).projected.unwrap().sources.unwrap();
        assert_eq!(sources[1].secret.as_ref().unwrap().items.as_ref().unwrap()[0].path, "vnc-password");
    }

    #[test]
    fn what_is_in_the_way_of_the_folder_is_named() {
        let template = |spec: Value| Template { spec: spec.as_object().cloned().unwrap(), ..Template::default() };
        let mounts =
            |path: &str| template(json!({ "containers": [{ "name": "a", "volumeMounts": [{ "mountPath": path }] }] }));
        for path in ["/run/berth", "/run/berth/", "/run/../run//berth/x", "run/berth/user"] {
            assert_eq!(problems(&mounts(path)).len(), 1, "{path}");
        }
        for path in ["/run", "/run/berths", "/home/run/berth"] {
            assert_eq!(problems(&mounts(path)), Vec::<String>::new(), "{path}");
        }
        let named = template(json!({ "volumes": [{ "name": "berth", "emptyDir": {} }], "containers": [] }));
        assert!(problems(&named)[0].contains("volumes[berth] is reserved"));
    }
}
