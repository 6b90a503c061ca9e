//! What the configuration file says of instances. Owns what may be written there; what becomes of it is
//! `plan::hardening`'s.

use serde::Deserialize;

use crate::plan::hardening::{Amounts, Hardening, amount};

/// The part `instances` of the configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    runtime_class_name: Option<String>,
    priority_class_name: Option<String>,
    user_namespaces: bool,
    limits: Option<Amounts>,
    requests: Option<Amounts>,
}

/// The settings in force. A list of amounts that is written takes the place of the default one, also an empty list.
///
/// # Errors
/// When an amount is no quantity, a request is larger than its limit, or a class is none that instances may have.
pub(super) fn settle(file: File) -> anyhow::Result<Hardening> {
    let default = Hardening::default();
    let hardening = Hardening {
        runtime_class_name: file.runtime_class_name,
        priority_class_name: file.priority_class_name,
        user_namespaces: file.user_namespaces,
        limits: file.limits.unwrap_or(default.limits),
        requests: file.requests.unwrap_or(default.requests),
    };
    for (list, amounts) in [("limits", &hardening.limits), ("requests", &hardening.requests)] {
        for (name, text) in amounts {
            anyhow::ensure!(
                amount(text).is_some(),
                "instances.{list}.{name} is `{text}`, which is no quantity: write one such as 500m or 4Gi"
            );
        }
    }
    for (name, request) in &hardening.requests {
        let limit = hardening.limits.get(name);
        anyhow::ensure!(
            limit.is_none_or(|limit| amount(request) <= amount(limit)),
            "instances.requests.{name} is {request}, more than instances.limits.{name}: write less, or a larger limit"
        );
    }
    for class in [&hardening.runtime_class_name, &hardening.priority_class_name].into_iter().flatten() {
        anyhow::ensure!(!class.is_empty(), "a class of instances without a name: write one, or leave the key out");
    }
    let of_system = hardening.priority_class_name.as_deref().filter(|class| class.starts_with("system-"));
    if let Some(class) = of_system {
        anyhow::bail!("instances.priorityClassName is {class}, which is for the system's own pods: name another class");
    }
    Ok(hardening)
}
