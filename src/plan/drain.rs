//! What a node's drain does to the instances on it: the budget that holds evictions up, and the marks by which autoscalers
//! leave a node alone. Owns both; that people are told, and when a session ends, is `session`'s.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::api::workspace::Drain;
use crate::api::{SESSION_UID_LABEL, WORKSPACE_UID_LABEL, Workspace};
use crate::plan::child::{self, Child, Failure};

/// More than a Workspace may have at once. Pods that no scalable controller owns are counted by such a number alone
/// (Kubernetes, "Arbitrary workloads and arbitrary selectors").
const MORE_THAN_ALL: i32 = 10_001;

/// Annotations by which an autoscaler is told about a pod, with what says that it may be evicted and what that it may not:
/// the cluster autoscaler's, and Karpenter's.
const MARKS: [(&str, &str, &str); 2] = [
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "true", "false"),
    ("karpenter.sh/do-not-disrupt", "false", "true"),
];

/// The marks of a pod in which nobody works: it may be evicted.
pub const EVICTABLE: [(&str, &str); 2] = [(MARKS[0].0, MARKS[0].1), (MARKS[1].0, MARKS[1].1)];

/// The marks of the instances of `workspace`, where its template has none of its own.
pub fn marks(workspace: &Workspace) -> impl Iterator<Item = (&'static str, &'static str)> {
    let evicted = workspace.spec.drain == Drain::Evict;
    MARKS.into_iter().map(move |(key, yes, no)| (key, if evicted { yes } else { no }))
}

/// How the budget of `workspace` stands where this one was seen under its name.
pub fn stand(
    workspace: &Workspace,
    seen: Option<&PodDisruptionBudget>,
    failed: Option<Failure>,
) -> Child<PodDisruptionBudget> {
    match (budget(workspace), seen) {
        (Some(wanted), seen) => child::child(wanted, seen, failed),
        (None, Some(seen)) if seen.metadata.deletion_timestamp.is_none() => {
            Child::Unwanted { name: seen.name_any(), uid: seen.uid().unwrap_or_default() }
        }
        (None, _) => Child::Unneeded,
    }
}

/// The budget that lets no instance of `workspace` be evicted while it is ready; none where they may be. It goes with the
/// Workspace: by then its sessions have their notice.
pub fn budget(workspace: &Workspace) -> Option<PodDisruptionBudget> {
    if workspace.spec.template.is_none() || workspace.spec.drain == Drain::Evict {
        return None;
    }
    let of_workspace = BTreeMap::from([(WORKSPACE_UID_LABEL.to_owned(), workspace.uid().unwrap_or_default())]);
    Some(PodDisruptionBudget {
        metadata: ObjectMeta { owner_references: Some(vec![child::owner(workspace)]), ..child::metadata(workspace) },
        spec: Some(PodDisruptionBudgetSpec {
            // Nobody works in a pod of its pool.
            selector: Some(LabelSelector {
                match_labels: Some(of_workspace),
                match_expressions: Some(vec![LabelSelectorRequirement {
                    key: SESSION_UID_LABEL.to_owned(),
                    operator: "Exists".to_owned(),
                    values: None,
                }]),
            }),
            min_available: Some(IntOrString::Int(MORE_THAN_ALL)),
            max_unavailable: None,
            // In one that is not ready nobody works.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn workspace(more: Value) -> Workspace {
        let mut spec = json!({
            "type": "web", "access": {"protocol": "HTTP", "port": 80},
            "template": {"spec": {"containers": [{"name": "main", "image": "box"}]}},
        });
        for (key, value) in more.as_object().cloned().unwrap_or_default() {
            spec[key] = value;
        }
        let metadata = json!({"name": "box", "namespace": "n", "uid": "w"});
        serde_json::from_value(
            json!({"apiVersion": "berth.dev/v1alpha1", "kind": "Workspace", "metadata": metadata, "spec": spec}),
        )
        .unwrap()
    }

    #[test]
    fn instances_are_protected_unless_the_workspace_lets_them_be_evicted() {
        for (drain, protected) in [("Wait", true), ("End", true), ("Evict", false)] {
            let workspace = workspace(json!({ "drain": drain }));
            assert_eq!(budget(&workspace).is_some(), protected, "{drain}");
            let marks: Vec<_> = marks(&workspace).map(|(_, value)| value).collect();
            assert_eq!(marks, if protected { ["false", "true"] } else { ["true", "false"] }, "{drain}");
        }
        assert_eq!(budget(&workspace(json!({ "template": null, "endpoint": { "host": "h" } }))), None);
    }

    #[test]
    fn a_budget_that_is_not_needed_any_more_goes() {
        let seen = budget(&workspace(json!({}))).unwrap();
        assert_eq!(stand(&workspace(json!({})), Some(&seen), None), Child::Stands);
        assert!(matches!(stand(&workspace(json!({ "drain": "Evict" })), Some(&seen), None), Child::Unwanted { .. }));
        assert_eq!(stand(&workspace(json!({ "drain": "Evict" })), None, None), Child::Unneeded);
        let mut holed = seen.clone();
        holed.spec.as_mut().unwrap().min_available = Some(IntOrString::Int(0));
        assert!(matches!(stand(&workspace(json!({})), Some(&holed), None), Child::Wanting { .. }));
    }
}
