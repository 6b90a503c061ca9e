//! Whether what a Workspace's template makes may run: the checks that need no API server. Each refusal names
//! the field, the rule and the mend. What only the API server knows is asked of it by a dry run.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, Container, HTTPGetAction, LifecycleHandler, PodSecurityContext, PodSpec, Probe,
    SELinuxOptions, SeccompProfile, SecurityContext, TCPSocketAction, WindowsSecurityContextOptions,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::workspace::{Retention, Template};
use crate::plan::shorten;

/// Prefix of the label and annotation keys that are the operator's own.
const RESERVED: &str = "berth.dev/";

/// The capabilities that a container may add.
const ALLOWED_CAPABILITIES: [&str; 1] = ["NET_BIND_SERVICE"];

/// What a projected volume may hold. A list of what is allowed, since a newer Kubernetes adds further kinds of
/// credentials.
const PROJECTED_SOURCES: [&str; 4] = ["secret", "configMap", "downwardAPI", "clusterTrustBundle"];

/// The types of SELinux under which a container is still confined, after the Pod Security Standards' baseline.
const SELINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// The kernel settings that a pod may change: those that Kubernetes counts as safe, for they end at its own walls.
const SAFE_SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];

/// What is wrong with `template`, or nothing. The text is for people and names the fields.
///
/// # Errors
/// All problems of the template in one sentence each.
pub fn check(template: &Template) -> Result<(), String> {
    let mut problems = metadata_problems(template);
    problems.extend(projected_problems(&template.spec));
    match serde_json::from_value::<PodSpec>(Value::Object(template.spec.clone())) {
        Ok(spec) => problems.extend(spec_problems(&spec, template)),
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

fn spec_problems(spec: &PodSpec, template: &Template) -> Vec<String> {
    let mut problems = Vec::new();
    let mut refuse = |wrong: bool, text: &str| {
        if wrong {
            problems.push(text.to_owned());
        }
    };
    refuse(spec.containers.is_empty(), "spec.template.spec.containers is empty: write at least one container");
    refuse(spec.host_network == Some(true), "spec.template.spec.hostNetwork is not allowed: remove it");
    refuse(spec.host_pid == Some(true), "spec.template.spec.hostPID is not allowed: remove it");
    refuse(spec.host_ipc == Some(true), "spec.template.spec.hostIPC is not allowed: remove it");
    refuse(
        spec.automount_service_account_token == Some(true),
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
            volume.host_path.is_some(),
            &format!(
                "spec.template.spec.volumes[{name}].hostPath is not allowed: use emptyDir or spec.template.volumeClaims"
            ),
        );
        refuse(
            template.volume_claims.iter().any(|claim| claim.name.as_str() == name),
            &format!(
                "spec.template.spec.volumes[{name}] and spec.template.volumeClaims[{name}] have the same name: rename one"
            ),
        );
    }
    problems.extend(spec.security_context.as_ref().map(pod_security_problems).unwrap_or_default());
    for container in spec.init_containers.iter().flatten() {
        problems.extend(container_problems("initContainers", container));
    }
    for container in &spec.containers {
        problems.extend(container_problems("containers", container));
    }
    problems
}

/// The same as for a container, for those that say nothing of their own; and what only a pod has.
fn pod_security_problems(security: &PodSecurityContext) -> Vec<String> {
    let at = "spec.template.spec";
    let unsafe_sysctls =
        security.sysctls.iter().flatten().filter(|sysctl| !SAFE_SYSCTLS.contains(&sysctl.name.as_str()));
    let mut problems = Walls {
        seccomp: security.seccomp_profile.as_ref(),
        app_armor: security.app_armor_profile.as_ref(),
        se_linux: security.se_linux_options.as_ref(),
        windows: security.windows_options.as_ref(),
    }
    .problems(at);
    problems.extend(
        unsafe_sysctls.map(|sysctl| format!("{at}.securityContext.sysctls[{}] is not allowed: remove it", sysctl.name)),
    );
    problems
}

/// What a pod and a container say alike of the walls around them.
struct Walls<'a> {
    seccomp: Option<&'a SeccompProfile>,
    app_armor: Option<&'a AppArmorProfile>,
    se_linux: Option<&'a SELinuxOptions>,
    windows: Option<&'a WindowsSecurityContextOptions>,
}

impl Walls<'_> {
    /// What takes the walls away.
    fn problems(&self, at: &str) -> Vec<String> {
        let at = format!("{at}.securityContext");
        let mut problems = Vec::new();
        if self.seccomp.is_some_and(|profile| profile.type_ == "Unconfined") {
            problems.push(format!("{at}.seccompProfile Unconfined is not allowed: use RuntimeDefault"));
        }
        if self.app_armor.is_some_and(|profile| profile.type_ == "Unconfined") {
            problems.push(format!("{at}.appArmorProfile Unconfined is not allowed: use RuntimeDefault"));
        }
        if self.se_linux.is_some_and(|options| !is_confined(options)) {
            problems.push(format!(
                "{at}.seLinuxOptions may not name a user, a role or a type of its own: use level, or remove it"
            ));
        }
        if self.windows.is_some_and(|options| options.host_process == Some(true)) {
            problems.push(format!("{at}.windowsOptions.hostProcess is not allowed: remove it"));
        }
        problems
    }
}

fn is_confined(options: &SELinuxOptions) -> bool {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    empty(&options.user)
        && empty(&options.role)
        && SELINUX_TYPES.contains(&options.type_.as_deref().unwrap_or_default())
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

fn container_problems(list: &str, container: &Container) -> Vec<String> {
    let at = format!("spec.template.spec.{list}[{}]", container.name);
    let mut problems = Vec::new();
    if container.image.as_deref().is_none_or(str::is_empty) {
        problems.push(format!("{at}.image is missing: name the image to run"));
    }
    if container.ports.iter().flatten().any(|port| port.host_port.is_some_and(|port| port != 0)) {
        problems.push(format!("{at}.ports.hostPort is not allowed: remove it"));
    }
    if let Some(security) = &container.security_context {
        problems.extend(security_problems(&at, security));
    }
    problems.extend(host_problems(&at, container));
    problems
}

/// Probes and hooks are asked by the node, from where it can reach what the instance may not: never another host.
fn host_problems(at: &str, container: &Container) -> Vec<String> {
    fn names_host(http: Option<&HTTPGetAction>, tcp: Option<&TCPSocketAction>) -> bool {
        let hosts = [http.and_then(|get| get.host.as_deref()), tcp.and_then(|socket| socket.host.as_deref())];
        hosts.into_iter().flatten().any(|host| !host.is_empty())
    }
    let probe = |probe: &Probe| names_host(probe.http_get.as_ref(), probe.tcp_socket.as_ref());
    let hook = |hook: &LifecycleHandler| names_host(hook.http_get.as_ref(), hook.tcp_socket.as_ref());
    let lifecycle = container.lifecycle.as_ref();
    let named = [
        ("livenessProbe", container.liveness_probe.as_ref().is_some_and(probe)),
        ("readinessProbe", container.readiness_probe.as_ref().is_some_and(probe)),
        ("startupProbe", container.startup_probe.as_ref().is_some_and(probe)),
        ("lifecycle.postStart", lifecycle.and_then(|it| it.post_start.as_ref()).is_some_and(hook)),
        ("lifecycle.preStop", lifecycle.and_then(|it| it.pre_stop.as_ref()).is_some_and(hook)),
    ];
    let refusal = |(field, _)| format!("{at}.{field} may not name a host: remove it, the pod itself is asked then");
    named.into_iter().filter(|(_, wrong)| *wrong).map(refusal).collect()
}

fn security_problems(at: &str, security: &SecurityContext) -> Vec<String> {
    let mut problems = Walls {
        seccomp: security.seccomp_profile.as_ref(),
        app_armor: security.app_armor_profile.as_ref(),
        se_linux: security.se_linux_options.as_ref(),
        windows: security.windows_options.as_ref(),
    }
    .problems(at);
    if security.privileged == Some(true) {
        problems.push(format!("{at}.securityContext.privileged is not allowed: remove it"));
    }
    if security.allow_privilege_escalation == Some(true) {
        problems.push(format!("{at}.securityContext.allowPrivilegeEscalation is not allowed: remove it"));
    }
    if security.proc_mount.as_deref().is_some_and(|mount| mount != "Default") {
        problems.push(format!("{at}.securityContext.procMount is not allowed: remove it"));
    }
    if let Some(Capabilities { add: Some(added), .. }) = &security.capabilities {
        for capability in added.iter().filter(|name| !ALLOWED_CAPABILITIES.contains(&name.as_str())) {
            problems.push(format!("{at}.securityContext.capabilities.add[{capability}] is not allowed: remove it"));
        }
    }
    problems
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
        assert_eq!(check(&template(spec)), Ok(()));
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
            let refusal = check(&template(spec.clone())).err().unwrap_or_default();
            assert!(refusal.contains(field), "{spec}: {refusal:?}");
        }
    }

    proptest! {
        #[test]
        fn no_template_makes_the_check_fail_badly(key in "[a-zA-Z]{1,12}", text in ".{0,20}", number in any::<i64>()) {
            for value in [json!(text), json!(number), json!([text]), json!({ "a": number }), json!(null)] {
                let _ = check(&template(json!({ key.clone(): value.clone(), "containers": [{ key.clone(): value }] })));
            }
        }
    }
}
