//! The ValidatingAdmissionPolicies for what RBAC cannot express: who may launch what and for whom, who may end whose, who
//! writes a status, and whose keys are Berth's. Owns their text. The chart installs them; `cluster::guard` watches that
//! they stand as they are written here.
//!
//! Five verbs are rights and no requests, as RBAC allows it: `launch` on workspaces; `onbehalf`, `end`, `observe` and
//! `operate` on sessions. The last is what makes an account Berth's own; an administrator who may do everything has it too.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::api::{GROUP, SESSION_FINALIZER, Session, VERSION};

/// One policy with its binding, which has the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct Guarded {
    /// What it refuses.
    pub policy: ValidatingAdmissionPolicy,
    /// Where: everywhere, and by denial.
    pub binding: ValidatingAdmissionPolicyBinding,
}

/// The request is one of Kubernetes' own controllers, which change and delete objects of every kind.
const BY_CONTROLLERS: &str = "request.userInfo.username in ['system:kube-controller-manager', \
    'system:serviceaccount:kube-system:generic-garbage-collector', \
    'system:serviceaccount:kube-system:namespace-controller', \
    'system:serviceaccount:kube-system:storage-version-migrator-controller']";

/// The prefix of the keys that are Berth's own, as a text of CEL.
const OURS: &str = "'berth.dev/'";

/// All policies, in a fixed order; their names begin with `prefix`, which is the release's name.
///
/// # Errors
/// Never, but where our own text does not have the shape of a policy.
pub fn policies(prefix: &str) -> Result<Vec<Guarded>, serde_json::Error> {
    [launches(prefix), changes(prefix), session_statuses(prefix), workspace_statuses(prefix), instances(prefix)]
        .into_iter()
        .map(|policy| {
            let name = policy["metadata"]["name"].clone();
            let binding = json!({
                "metadata": { "name": name },
                "spec": { "policyName": name, "validationActions": ["Deny"] },
            });
            Ok(Guarded { policy: serde_json::from_value(policy)?, binding: serde_json::from_value(binding)? })
        })
        .collect()
}

/// Who may launch what, and for whom.
fn launches(prefix: &str) -> Value {
    let rules = [
        rule(
            format!("object.spec.user.id == request.userInfo.username || {}", may("sessions", "", "onbehalf")),
            "spec.user.id is not your username: write your own, or ask for the verb onbehalf on sessions.berth.dev",
        ),
        rule(
            may("workspaces", "object.spec.workspaceRef.name", "launch"),
            "you may not launch this Workspace: ask for the verb launch on workspaces.berth.dev, by its name or for all",
        ),
        rule(
            format!("{} && {}", none_of_ours("labels"), none_of_ours("annotations")),
            "labels and annotations that begin with berth.dev/ are Berth's own: use other keys",
        ),
        rule(
            "!has(object.metadata.finalizers) || size(object.metadata.finalizers) == 0",
            "a new Session has no finalizers: leave metadata.finalizers out",
        ),
    ];
    policy(prefix, "session-create", (GROUP, VERSION, "sessions"), &["CREATE"], &[others()], &rules, json!([]))
}

/// Who may change and delete a Session that stands.
fn changes(prefix: &str) -> Value {
    let finalizers = |of: &str| format!("(has({of}.metadata.finalizers) ? {of}.metadata.finalizers : [])");
    let variables = json!([
        { "name": "isOwner", "expression": "oldObject.spec.user.id == request.userInfo.username" },
        { "name": "mayEnd", "expression": may("sessions", "oldObject.metadata.name", "end") },
    ]);
    let rules = [
        rule(
            "variables.isOwner || variables.mayEnd",
            "this is another user's session: ask its user, or for the verb end on sessions.berth.dev",
        ),
        rule(
            format!("request.operation == 'DELETE' || ({} && {})", kept("labels"), kept("annotations")),
            "labels and annotations that begin with berth.dev/ are Berth's own: leave them as they are",
        ),
        // Whoever may end a session may free one that an uninstalled Berth still holds.
        rule(
            format!(
                "request.operation == 'DELETE' || variables.mayEnd || {} == {}",
                finalizers("object"),
                finalizers("oldObject")
            ),
            &format!("the finalizer {SESSION_FINALIZER} is Berth's own: leave metadata.finalizers as they are"),
        ),
    ];
    let who = [controllers(), others()];
    policy(prefix, "session-change", (GROUP, VERSION, "sessions"), &["UPDATE", "DELETE"], &who, &rules, variables)
}

/// Who may write the status of a Session: Berth all of it, observers the activity.
fn session_statuses(prefix: &str) -> Value {
    let same = |field: &str| {
        format!(
            "has(object.status.{field}) == has(oldObject.status.{field}) && \
             (!has(object.status.{field}) || object.status.{field} == oldObject.status.{field})"
        )
    };
    let unchanged: Vec<String> =
        status_fields().iter().filter(|field| *field != "activity").map(|field| same(field)).collect();
    let rules = [
        rule(
            may("sessions", "oldObject.metadata.name", "observe"),
            "a Session's status is written by Berth: to report activity, ask for the verb observe on sessions.berth.dev",
        ),
        rule(
            "!has(oldObject.status) || !has(oldObject.status.policy) || !has(oldObject.status.policy.activitySource) || \
             oldObject.status.policy.activitySource == 'status'",
            "this session's activity is told by Berth's gateways alone: its policy says activity.source: gateway",
        ),
        rule(
            format!(
                "has(object.status) == has(oldObject.status) && (!has(object.status) || ({}))",
                unchanged.join(" && ")
            ),
            "of a Session's status you may write status.activity alone: leave the rest as it is",
        ),
    ];
    let resource = (GROUP, VERSION, "sessions/status");
    policy(prefix, "session-status", resource, &["UPDATE"], &[others()], &rules, json!([]))
}

/// Who may write the status of a Workspace: Berth alone.
fn workspace_statuses(prefix: &str) -> Value {
    let rules = [rule("false", "a Workspace's status is written by Berth alone")];
    let resource = (GROUP, VERSION, "workspaces/status");
    policy(prefix, "workspace-status", resource, &["UPDATE"], &[others()], &rules, json!([]))
}

/// Who may make a pod look like an instance, or unlike one: Berth alone.
fn instances(prefix: &str) -> Value {
    let owned = |of: &str| {
        format!(
            "(has({of}.metadata.ownerReferences) ? {of}.metadata.ownerReferences : [])\
             .filter(o, o.kind == 'Session' && o.apiVersion.startsWith('{GROUP}/'))"
        )
    };
    // The garbage collector goes by all of these.
    let named = |of: &str| format!("{}.map(o, o.apiVersion + ' ' + o.kind + ' ' + o.name + ' ' + o.uid)", owned(of));
    let marked = |of: &str| {
        let any =
            |what: &str| format!("(has({of}.metadata.{what}) && {of}.metadata.{what}.exists(k, k.startsWith({OURS})))");
        format!("{} || {} || size({}) > 0", any("labels"), any("annotations"), owned(of))
    };
    // One expression, which ends at its first part that is false: conditions by themselves are all evaluated, and most pods
    // are nobody's instance. Kubernetes' controllers change pods, and make none in a name of ours.
    let concerned = json!({
        "name": "marked-as-an-instance-and-not-by-berth",
        "expression": format!(
            "({} || (oldObject != null && ({}))) && !(request.operation == 'UPDATE' && {}) && {}",
            marked("object"),
            marked("oldObject"),
            BY_CONTROLLERS,
            not_by_berth()
        ),
    });
    let rules = [
        rule(
            format!(
                "request.operation == 'CREATE' ? ({} && {}) : ({} && {})",
                none_of_ours("labels"),
                none_of_ours("annotations"),
                kept("labels"),
                kept("annotations")
            ),
            "labels and annotations that begin with berth.dev/ mark the instances of sessions: they are Berth's own",
        ),
        rule(
            format!(
                "request.operation == 'CREATE' ? size({}) == 0 : {} == {}",
                owned("object"),
                named("object"),
                named("oldObject")
            ),
            "a pod that a Session owns is its instance: only Berth makes or unmakes one",
        ),
    ];
    policy(prefix, "instance-keys", ("", "v1", "pods"), &["CREATE", "UPDATE"], &[concerned], &rules, json!([]))
}

/// A policy with what the API server would fill in written out, so that it can be compared with what stands.
fn policy(
    prefix: &str,
    name: &str,
    (group, version, resource): (&str, &str, &str),
    operations: &[&str],
    conditions: &[Value],
    rules: &[Value],
    variables: Value,
) -> Value {
    let mut spec = json!({
        "failurePolicy": "Fail",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "resourceRules": [{
                "apiGroups": [group], "apiVersions": [version], "resources": [resource], "operations": operations,
                "scope": "*",
            }],
        },
        "matchConditions": conditions,
        "validations": rules,
    });
    if variables.as_array().is_some_and(|variables| !variables.is_empty()) {
        spec["variables"] = variables;
    }
    json!({ "metadata": { "name": format!("{}-{name}", prefix) }, "spec": spec })
}

fn rule(expression: impl Into<String>, message: &str) -> Value {
    json!({ "expression": expression.into(), "message": message, "reason": "Forbidden" })
}

/// Whether the caller has a verb on a resource of ours: on one object, or where none is named on all.
fn may(resource: &str, name: &str, verb: &str) -> String {
    let name = if name.is_empty() { String::new() } else { format!(".name({name})") };
    format!(
        "authorizer.group('{GROUP}').resource('{resource}').namespace(request.namespace){name}.check('{verb}').allowed()"
    )
}

/// The request is none of Berth's own.
fn others() -> Value {
    json!({ "name": "not-by-berth", "expression": not_by_berth() })
}

fn not_by_berth() -> String {
    format!("!{}", may("sessions", "", "operate"))
}

/// The request is none of Kubernetes' own controllers.
fn controllers() -> Value {
    json!({ "name": "not-by-kubernetes", "expression": format!("!({BY_CONTROLLERS})") })
}

/// A new object has no key of ours.
fn none_of_ours(keys: &str) -> String {
    format!("(!has(object.metadata.{keys}) || object.metadata.{keys}.all(k, !k.startsWith({OURS})))")
}

/// The keys of ours are in the object as they were before.
fn kept(keys: &str) -> String {
    let within = |one: &str, other: &str| {
        format!(
            "(!has({one}.metadata.{keys}) || {one}.metadata.{keys}.all(k, !k.startsWith({OURS}) || \
             (has({other}.metadata.{keys}) && k in {other}.metadata.{keys} && \
             {other}.metadata.{keys}[k] == {one}.metadata.{keys}[k])))"
        )
    };
    format!("{} && {}", within("object", "oldObject"), within("oldObject", "object"))
}

/// The fields of a Session's status, by its definition.
fn status_fields() -> Vec<String> {
    let crd = serde_json::to_value(Session::crd()).unwrap_or_default();
    let status = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
    status.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_denies_everywhere_and_is_closed_when_it_fails() {
        let policies = policies("berth").unwrap();
        assert_eq!(policies.len(), 5);
        for Guarded { policy, binding } in policies {
            let spec = policy.spec.unwrap();
            assert_eq!(spec.failure_policy.as_deref(), Some("Fail"));
            assert!(spec.validations.unwrap().iter().all(|it| it.message.is_some()));
            let binding = binding.spec.unwrap();
            assert_eq!(binding.policy_name, policy.metadata.name);
            assert_eq!(binding.validation_actions, Some(vec!["Deny".to_owned()]));
        }
    }

    #[test]
    fn an_observer_may_write_no_field_of_a_status_but_the_activity() {
        let policy = serde_json::to_string(&session_statuses("berth")).unwrap();
        for field in status_fields() {
            assert_eq!(policy.contains(&format!("object.status.{field})")), field != "activity", "{field}");
        }
        assert!(status_fields().len() > 10);
    }
}
