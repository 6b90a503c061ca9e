//! A Workspace as the API shows it.

use kube::ResourceExt;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Workspace;
use crate::api::condition::{self, Status, Type};
use crate::api::workspace::WorkspacePhase;

/// What can be launched.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct WorkspaceView {
    /// The resource's name.
    pub id: String,
    /// The namespace that it is in.
    pub organization: String,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// `html5`, `rdp`, `linux`, `windows`, `ssh` or `web`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it can be launched.
    pub status: WorkspaceStatusView,
    /// What keeps it from being launched, for people.
    pub message: Option<String>,
    /// How many sessions hold a slot, as the operator last counted.
    pub active_sessions: Option<i32>,
    /// How many may.
    pub max_sessions: i32,
    /// `HTTP`, `VNC`, `RDP` or `SSH`.
    pub protocol: String,
}

/// Whether a Workspace can be launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceStatusView {
    /// It can.
    Available,
    /// No slot is free.
    InUse,
    /// Nobody new, for now.
    Maintenance,
    /// Something is wrong with it, or the operator has not looked at it yet.
    Unavailable,
}

impl WorkspaceView {
    /// The Workspace as it stands.
    pub fn of(workspace: &Workspace) -> Self {
        let status = workspace.status.as_ref();
        let going = workspace.metadata.deletion_timestamp.is_some();
        let phase = status.and_then(|status| status.phase).filter(|_| !going);
        let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
        let trouble = condition::find(conditions, Type::Ready).filter(|ready| ready.status != Status::True);
        Self {
            id: workspace.name_any(),
            organization: workspace.namespace().unwrap_or_default(),
            name: workspace.spec.display_name.as_ref().map_or_else(|| workspace.name_any(), ToString::to_string),
            description: workspace.spec.description.as_ref().map(ToString::to_string),
            type_: workspace.spec.type_.as_str().to_owned(),
            status: match phase {
                // What the spec says is known before the operator has told.
                _ if workspace.spec.maintenance && !going => WorkspaceStatusView::Maintenance,
                Some(WorkspacePhase::Available) => WorkspaceStatusView::Available,
                Some(WorkspacePhase::InUse) => WorkspaceStatusView::InUse,
                Some(WorkspacePhase::Maintenance) => WorkspaceStatusView::Maintenance,
                Some(WorkspacePhase::Unavailable) | None => WorkspaceStatusView::Unavailable,
            },
            message: trouble.map(|trouble| trouble.message.clone()),
            active_sessions: status.and_then(|status| status.active_sessions),
            max_sessions: workspace.spec.max_sessions,
            protocol: format!("{:?}", workspace.spec.access.protocol),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shown(spec: Value, status: Value) -> Value {
        let mut object = json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace", "metadata": { "name": "box", "namespace": "demo" },
            "spec": { "type": "ssh", "access": { "protocol": "SSH", "port": 22 }, "endpoint": { "host": "h" } },
            "status": status,
        });
        for (key, value) in spec.as_object().cloned().unwrap_or_default() {
            object["spec"][key] = value;
        }
        let workspace: Workspace = serde_json::from_value(object).unwrap();
        serde_json::to_value(WorkspaceView::of(&workspace)).unwrap()
    }

    #[test]
    fn a_workspace_is_available_only_by_the_operators_word() {
        assert_eq!(shown(json!({}), Value::Null)["status"], "unavailable");
        assert_eq!(shown(json!({}), json!({ "phase": "Available" }))["status"], "available");
        assert_eq!(shown(json!({}), json!({ "phase": "InUse" }))["status"], "in_use");
        assert_eq!(shown(json!({ "maintenance": true }), json!({ "phase": "Available" }))["status"], "maintenance");
        assert_eq!(shown(json!({}), json!({}))["name"], "box");
        assert_eq!(shown(json!({ "displayName": "Box 7" }), json!({}))["name"], "Box 7");
    }
}
