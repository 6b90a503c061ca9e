//! Whether what a Workspace's template makes may run: the checks that need no API server. Each refusal names
//! the field, the rule and the mend. Owns Berth's own rules; those of the Pod Security Standard are in `restricted`. What
//! only the API server knows is asked of it by a dry run.

mod restricted;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::workspace::{Retention, Template};
use crate::plan::contract;
use crate::plan::hardening::Hardening;
use crate::plan::shorten;

/// Prefix of the label and annotation keys that are the operator's own.
const RESERVED: &str = "berth.dev/";

/// What a projected volume may hold. A list of what is allowed, since a newer Kubernetes adds further kinds of
/// credentials.
const PROJECTED_SOURCES: [&str; 4] = ["secret", "configMap", "downwardAPI", "clusterTrustBundle"];

/// What is wrong with what `template` makes in this installation, or nothing. The text is for people and names the fields.
///
/// # Errors
/// All problems of the template in one sentence each.
pub fn check(template: &Template, hardening: &Hardening) -> Result<(), String> {
    let mut problems = metadata_problems(template);
    problems.extend(projected_problems(&template.spec));
    problems.extend(contract::problems(template));
    problems.extend(hardening.contradictions(&template.spec));
    let merged = hardening.merged(&template.spec);
    match serde_json::from_value::<PodSpec>(Value::Object(merged.clone())) {
        Ok(spec) => {
            problems.extend(own_problems(&spec, template));
            problems.extend(restricted::violations(&spec, &merged));
        }
        Err(error) => problems.push(
            unreadable(&template.spec).unwrap_or_else(|| format!("spec.template.spec is not a PodSpec: {error}")),
        ),
    }
    if problems.is_empty() { Ok(()) } else { Err(shorten(&problems.join("; "))) }
}

/// Whether the template has a claim that is kept for its user.
pub fn retains(template: &Template) -> bool {
    template.volume_claims.iter().any(|claim| claim.retention == Retention::Retain)
}

fn metadata_problems(template: &Template) -> Vec<String> {
    let Some(meta) = &template.metadata else { return Vec::new() };
    let keys =
        meta.labels.keys().map(|key| ("labels", key)).chain(meta.annotations.keys().map(|key| ("annotations", key)));
    keys.filter(|(_, key)| key.starts_with(RESERVED))
        .map(|(field, key)| format!("spec.template.metadata.{field}[{key}] is reserved: use another key"))
        .chain(meta.annotations.iter().filter_map(|(key, value)| restricted::annotation_problem(key, value)))
        .collect()
}

/// Sources of projected volumes that would give the instance a credential. Read from what is written: a source of a
/// newer Kubernetes has no field in our types.
fn projected_problems(spec: &Map<String, Value>) -> Vec<String> {
    let mut problems = Vec::new();
    for volume in spec.get("volumes").and_then(Value::as_array).into_iter().flatten() {
        let name = volume["name"].as_str().unwrap_or_default();
        let sources = volume["projected"]["sources"].as_array().into_iter().flatten();
        let kinds = sources.filter_map(Value::as_object).flat_map(Map::keys);
        problems.extend(kinds.filter(|kind| !PROJECTED_SOURCES.contains(&kind.as_str())).map(|kind| {
            format!(
                "spec.template.spec.volumes[{name}].projected.{kind} is not allowed: an instance gets no token; remove it"
            )
        }));
    }
    problems
}

fn own_problems(spec: &PodSpec, template: &Template) -> Vec<String> {
    let mut problems = Vec::new();
    let mut refuse = |wrong: bool, text: &str| {
        if wrong {
            problems.push(text.to_owned());
        }
    };
    refuse(spec.containers.is_empty(), "spec.template.spec.containers is empty: write at least one container");
    refuse(
        template.spec.get("automountServiceAccountToken").is_some_and(|mounts| mounts == true),
        "spec.template.spec.automountServiceAccountToken is not allowed: an instance gets no token; remove it",
    );
    refuse(spec.node_name.is_some(), "spec.template.spec.nodeName is not allowed: use nodeSelector or affinity");
    refuse(
        spec.priority_class_name.as_deref().is_some_and(|class| class.starts_with("system-")),
        "spec.template.spec.priorityClassName of the system is not allowed: name another class, or remove it",
    );
    for volume in spec.volumes.iter().flatten() {
        let name = &volume.name;
        refuse(
            template.volume_claims.iter().any(|claim| claim.name.as_str() == name),
            &format!(
                "spec.template.spec.volumes[{name}] and spec.template.volumeClaims[{name}] have the same name: rename one"
            ),
        );
    }
    for (at, container) in restricted::containers(spec) {
        refuse(
            container.image.as_deref().is_none_or(str::is_empty),
            &format!("{at}.image is missing: name the image to run"),
        );
    }
    problems
}

/// The first field of a PodSpec that does not have the type that it should, where that can be told.
fn unreadable(spec: &Map<String, Value>) -> Option<String> {
    let at = "spec.template.spec";
    for (list, items) in ["initContainers", "containers"].iter().filter_map(|list| Some((*list, spec.get(*list)?))) {
        for (index, container) in items.as_array().into_iter().flatten().enumerate() {
            let of = format!("{at}.{list}[{index}]");
            let Some(fields) = container.as_object() else {
                return Some(format!("{of} is not a container: write an object"));
            };
            if let Some(problem) = first_unreadable::<Container>(&of, fields) {
                return Some(problem);
            }
        }
    }
    first_unreadable::<PodSpec>(at, spec)
}

/// The first of `fields` with which alone an object of its kind cannot be read.
fn first_unreadable<K: DeserializeOwned>(at: &str, fields: &Map<String, Value>) -> Option<String> {
    fields.iter().find_map(|(name, value)| {
        let alone = Map::from_iter([(name.clone(), value.clone())]);
        let error = serde_json::from_value::<K>(Value::Object(alone)).err()?;
        Some(format!("{at}.{name} cannot be read: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn template(spec: Value) -> Template {
        Template { spec: spec.as_object().cloned().unwrap_or_default(), ..Template::default() }
    }

    #[test]
    fn an_ordinary_template_passes() {
        let spec = json!({"containers": [{"name": "main", "image": "desk", "securityContext": {"capabilities": {"drop": ["ALL"]}}}]});
        assert_eq!(check(&template(spec), &Hardening::default()), Ok(()));
    }

    #[test]
    fn what_reaches_for_the_node_is_refused_by_name() {
        for (spec, field) in [
            (json!({"hostNetwork": true, "containers": [{"name": "a", "image": "i"}]}), "hostNetwork"),
            (json!({"hostPID": true, "containers": [{"name": "a", "image": "i"}]}), "hostPID"),
            (
                json!({"containers": [{"name": "a", "image": "i", "securityContext": {"privileged": true}}]}),
                "privileged",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]}),
                "SYS_ADMIN",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 1, "hostPort": 1}]}]}),
                "hostPort",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i"}], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
                "hostPath",
            ),
            (
                json!({"initContainers": [{"name": "a", "image": "i", "securityContext": {"privileged": true}}], "containers": [{"name": "b", "image": "i"}]}),
                "privileged",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i"}], "volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
                "volumes[v].projected.serviceAccountToken",
            ),
            (
                json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}, "containers": [{"name": "a", "image": "i"}]}),
                "spec.template.spec.securityContext.seccompProfile",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i", "securityContext": {"appArmorProfile": {"type": "Unconfined"}}}]}),
                "containers[a].securityContext.appArmorProfile",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i", "securityContext": {"windowsOptions": {"hostProcess": true}}}]}),
                "hostProcess",
            ),
            (
                json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}, "containers": [{"name": "a", "image": "i"}]}),
                "sysctls[kernel.msgmax]",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i"}], "volumes": [{"name": "v", "projected": {"sources": [{"podCertificate": {"signerName": "s"}}]}}]}),
                "volumes[v].projected.podCertificate",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i", "securityContext": {"seLinuxOptions": {"user": "system_u"}}}]}),
                "containers[a].securityContext.seLinuxOptions",
            ),
            (
                json!({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}, "containers": [{"name": "a", "image": "i"}]}),
                "spec.template.spec.securityContext.seLinuxOptions",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i", "livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 80}}}]}),
                "containers[a].livenessProbe may not name a host",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i", "lifecycle": {"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 80}}}}]}),
                "lifecycle.preStop",
            ),
            (
                json!({"securityContext": {"runAsNonRoot": false}, "containers": [{"name": "a", "image": "i"}]}),
                "spec.template.spec.securityContext.runAsNonRoot false",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i", "securityContext": {"runAsUser": 0}}]}),
                "containers[a].securityContext.runAsUser 0",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i"}], "volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]}),
                "volumes[v].nfs",
            ),
            (json!({"nodeName": "n", "containers": [{"name": "a", "image": "i"}]}), "nodeName"),
            (
                json!({"priorityClassName": "system-node-critical", "containers": [{"name": "a", "image": "i"}]}),
                "priorityClassName",
            ),
            (
                json!({"initContainers": [{"name": "a", "image": "i", "securityContext": {"privileged": true}}], "containers": [{"name": "b", "image": "i"}]}),
                "initContainers[a].securityContext.privileged",
            ),
            (
                json!({"containers": [{"name": "a", "image": "i", "ports": "http"}]}),
                "containers[0].ports cannot be read",
            ),
            (json!({"hostNetwork": "yes", "containers": []}), "spec.template.spec.hostNetwork cannot be read"),
            (json!({"containers": [null]}), "containers[0] is not a container"),
            (json!({"containers": [{"name": "a"}]}), "image"),
            (json!({"containers": []}), "containers"),
            (json!({"containers": "none"}), "spec.template.spec.containers cannot be read"),
        ] {
            let refusal = check(&template(spec.clone()), &Hardening::default()).err().unwrap_or_default();
            assert!(refusal.contains(field), "{spec}: {refusal:?}");
        }
    }

    proptest! {
        #[test]
        fn no_template_makes_the_check_fail_badly(key in "[a-zA-Z]{1,12}", text in ".{0,20}", number in any::<i64>()) {
            for value in [json!(text), json!(number), json!([text]), json!({ "a": number }), json!(null)] {
                let _ = check(&template(json!({ key.clone(): value.clone(), "containers": [{ key.clone(): value }] })), &Hardening::default());
            }
        }
    }
}
