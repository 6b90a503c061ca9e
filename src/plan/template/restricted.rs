//! The Pod Security Standard `restricted`, version 1.36, over a PodSpec as it would be made: what goes beyond it, field by
//! field. Stricter where Berth's rules are: no relaxation for pods with users of their own. Source:
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, HTTPGetAction, LifecycleHandler, PodSecurityContext, PodSpec, Probe, SELinuxOptions,
    SecurityContext, TCPSocketAction,
};
use serde_json::{Map, Value};

/// Where the fields are, for those who read the refusal.
const AT: &str = "spec.template.spec";

/// The capabilities that a container may add.
const ALLOWED_CAPABILITIES: [&str; 1] = ["NET_BIND_SERVICE"];

/// The kinds of volumes that a pod may have. A list of what is allowed, since a newer Kubernetes adds further kinds.
const ALLOWED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The types of SELinux under which a container is still confined.
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

/// The annotations by which AppArmor profiles were named before there was a field. They still count.
const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What in `spec`, which was read from `written`, goes beyond the standard; each names the field and the mend.
pub fn violations(spec: &PodSpec, written: &Map<String, Value>) -> Vec<String> {
    let is_windows = spec.os.as_ref().is_some_and(|os| os.name == "windows");
    let mut problems = Vec::new();
    for (field, reaches) in [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)]
    {
        if reaches == Some(true) {
            problems.push(format!("{AT}.{field} is not allowed: remove it"));
        }
    }
    problems.extend(volume_problems(written));
    let none = PodSecurityContext::default();
    let of_pod = spec.security_context.as_ref().unwrap_or(&none);
    problems.extend(pod_problems(of_pod));
    for (at, container) in containers(spec) {
        problems.extend(container_problems(&at, container));
        problems.extend(missing(&at, container, of_pod, is_windows));
    }
    problems
}

/// All containers that a template may have, each with where it stands.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = (String, &Container)> {
    let first = spec.init_containers.iter().flatten().map(|container| ("initContainers", container));
    let all = first.chain(spec.containers.iter().map(|container| ("containers", container)));
    all.map(|(list, container)| (format!("{AT}.{list}[{}]", container.name), container))
}

/// The annotations of a pod that take a wall away.
pub fn annotation_problem(key: &str, value: &str) -> Option<String> {
    let kept = value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    (key.starts_with(APP_ARMOR_ANNOTATION) && !kept).then(|| {
        format!("spec.template.metadata.annotations[{key}] {value} is not allowed: use runtime/default, or remove it")
    })
}

/// Read from what is written: a kind that a newer Kubernetes adds has no field in our types.
fn volume_problems(written: &Map<String, Value>) -> Vec<String> {
    let mut problems = Vec::new();
    for volume in written.get("volumes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
        let name = volume.get("name").and_then(Value::as_str).unwrap_or_default();
        let kinds = volume.iter().filter(|(field, value)| *field != "name" && !value.is_null()).map(|(kind, _)| kind);
        problems.extend(kinds.filter(|kind| !ALLOWED_VOLUMES.contains(&kind.as_str())).map(|kind| {
            format!("{AT}.volumes[{name}].{kind} is not allowed: use emptyDir or spec.template.volumeClaims")
        }));
    }
    problems
}

/// The same as for a container, for those that say nothing of their own; and what only a pod has.
fn pod_problems(security: &PodSecurityContext) -> Vec<String> {
    // A container says the same of itself in fields of the same names.
    let alike = SecurityContext {
        run_as_non_root: security.run_as_non_root,
        run_as_user: security.run_as_user,
        seccomp_profile: security.seccomp_profile.clone(),
        app_armor_profile: security.app_armor_profile.clone(),
        se_linux_options: security.se_linux_options.clone(),
        windows_options: security.windows_options.clone(),
        ..SecurityContext::default()
    };
    let mut problems = security_problems(AT, &alike);
    let unsafe_sysctls =
        security.sysctls.iter().flatten().filter(|sysctl| !SAFE_SYSCTLS.contains(&sysctl.name.as_str()));
    problems.extend(
        unsafe_sysctls.map(|sysctl| format!("{AT}.securityContext.sysctls[{}] is not allowed: remove it", sysctl.name)),
    );
    problems
}

fn is_confined(options: &SELinuxOptions) -> bool {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    empty(&options.user)
        && empty(&options.role)
        && SELINUX_TYPES.contains(&options.type_.as_deref().unwrap_or_default())
}

fn container_problems(at: &str, container: &Container) -> Vec<String> {
    let mut problems = Vec::new();
    if container.ports.iter().flatten().any(|port| port.host_port.is_some_and(|port| port != 0)) {
        problems.push(format!("{at}.ports.hostPort is not allowed: remove it"));
    }
    if let Some(security) = &container.security_context {
        problems.extend(security_problems(at, security));
    }
    problems.extend(host_problems(at, container));
    problems
}

/// What makes a process root, takes the walls around it away, or gives it more than others have.
fn security_problems(at: &str, security: &SecurityContext) -> Vec<String> {
    let seccomp = security.seccomp_profile.as_ref().map(|profile| profile.type_.as_str()).unwrap_or("RuntimeDefault");
    let seccomp_refused = format!("seccompProfile {seccomp} is not allowed: use RuntimeDefault");
    let wrong = [
        (security.run_as_non_root == Some(false), "runAsNonRoot false is not allowed: remove it"),
        (security.run_as_user == Some(0), "runAsUser 0 is not allowed: name another user, as the image has it"),
        (!["RuntimeDefault", "Localhost"].contains(&seccomp), seccomp_refused.as_str()),
        (
            security.app_armor_profile.as_ref().is_some_and(|profile| profile.type_ == "Unconfined"),
            "appArmorProfile Unconfined is not allowed: use RuntimeDefault",
        ),
        (
            security.se_linux_options.as_ref().is_some_and(|options| !is_confined(options)),
            "seLinuxOptions may not name a user, a role or a type of its own: use level, or remove it",
        ),
        (
            security.windows_options.as_ref().is_some_and(|options| options.host_process == Some(true)),
            "windowsOptions.hostProcess is not allowed: remove it",
        ),
    ];
    let told = wrong.iter().filter(|(wrong, _)| *wrong);
    let mut problems: Vec<String> = told.map(|(_, words)| format!("{at}.securityContext.{words}")).collect();
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

/// What the standard wants written and is not. Nothing is, of a template that was merged; this is what proves it.
fn missing(at: &str, container: &Container, of_pod: &PodSecurityContext, is_windows: bool) -> Vec<String> {
    let none = SecurityContext::default();
    let security = container.security_context.as_ref().unwrap_or(&none);
    let dropped = security.capabilities.as_ref().and_then(|capabilities| capabilities.drop.as_deref());
    let drops_all = dropped.unwrap_or_default().iter().any(|name| name == "ALL");
    let wanted = [
        (security.run_as_non_root.or(of_pod.run_as_non_root).is_some(), "runAsNonRoot: write true"),
        (
            is_windows || security.seccomp_profile.is_some() || of_pod.seccomp_profile.is_some(),
            "seccompProfile: write RuntimeDefault",
        ),
        (is_windows || security.allow_privilege_escalation.is_some(), "allowPrivilegeEscalation: write false"),
        (is_windows || drops_all, "capabilities.drop: write ALL"),
    ];
    let told = wanted.iter().filter(|(written, _)| !*written);
    told.map(|(_, words)| format!("{at}.securityContext lacks {words}")).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::hardening::Hardening;
    use proptest::prelude::*;
    use serde_json::json;

    fn of(spec: &Value) -> Vec<String> {
        let read: PodSpec = serde_json::from_value(spec.clone()).unwrap();
        violations(&read, spec.as_object().unwrap())
    }

    #[test]
    fn a_bare_pod_lacks_all_that_the_standard_wants_written() {
        let bare = json!({ "containers": [{ "name": "a", "image": "i" }] });
        let lacks = of(&bare).join("; ");
        for field in ["runAsNonRoot", "seccompProfile", "allowPrivilegeEscalation", "capabilities.drop"] {
            assert!(lacks.contains(field), "{field}: {lacks}");
        }
        let windows = json!({ "os": { "name": "windows" }, "containers": [{ "name": "a", "image": "i" }] });
        assert_eq!(of(&windows), ["spec.template.spec.containers[a].securityContext lacks runAsNonRoot: write true"]);
    }

    #[test]
    fn an_old_annotation_may_not_take_app_armor_away() {
        let key = "container.apparmor.security.beta.kubernetes.io/main";
        assert!(annotation_problem(key, "unconfined").is_some());
        assert_eq!(annotation_problem(key, "runtime/default"), None);
        assert_eq!(annotation_problem("example.org/note", "unconfined"), None);
    }

    /// A security context of which each field is written, right or wrong, or not.
    fn context() -> impl Strategy<Value = Value> {
        let written = |values: Vec<Value>| prop::sample::select(values);
        (
            written(vec![json!(null), json!(true)]),
            written(vec![json!(null), json!({ "type": "RuntimeDefault" }), json!({ "type": "Localhost", "localhostProfile": "p" })]),
            written(vec![json!(null), json!(false)]),
            written(vec![json!(null), json!({ "drop": ["CHOWN"] }), json!({ "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] }), json!({})]),
        )
            .prop_map(|(non_root, seccomp, escalation, capabilities)| {
                json!({ "runAsNonRoot": non_root, "seccompProfile": seccomp, "allowPrivilegeEscalation": escalation, "capabilities": capabilities })
            })
    }

    proptest! {
        #[test]
        fn whatever_is_not_written_wrongly_is_restricted_once_it_is_merged(
            contexts in prop::collection::vec(context(), 1..4), of_pod in context(),
        ) {
            let containers: Vec<Value> = contexts.iter().enumerate().map(|(index, context)| {
                json!({ "name": format!("c{index}"), "image": "i", "securityContext": context })
            }).collect();
            let of_pod = json!({ "runAsNonRoot": of_pod["runAsNonRoot"], "seccompProfile": of_pod["seccompProfile"] });
            let template = json!({ "securityContext": of_pod, "containers": containers });
            let merged = Hardening::default().merged(template.as_object().unwrap());
            prop_assert_eq!(of(&Value::Object(merged)), Vec::<String>::new());
        }
    }
}
