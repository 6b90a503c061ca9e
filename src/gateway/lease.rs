//! By what a gateway is known to live: a Lease of its own, renewed while it runs. What it says of activity counts for as long.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::Gateway;
use crate::api::time::to_wire_micro;
use crate::api::{GATEWAY_MANAGER, OBSERVER_LABEL};
use crate::cluster::error::{CallError, bounded};

/// How long it holds after its last renewal.
const DURATION: Duration = Duration::from_secs(15);
/// How often it is renewed.
const EVERY: Duration = Duration::from_secs(5);

/// Holds the Lease until the process ends.
pub async fn run(gateway: Arc<Gateway>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = renew(&gateway).await {
            tracing::warn!(
                error = error.words(),
                "the gateway's Lease was not renewed: its word on activity counts less"
            );
        }
    }
}

/// Gives the Lease up: nobody is to believe in this process any more.
pub async fn give_up(gateway: &Gateway) {
    let _ = bounded(leases(gateway).delete(&name(gateway), &DeleteParams::default())).await;
}

async fn renew(gateway: &Gateway) -> Result<(), CallError> {
    let api = leases(gateway);
    let now = to_wire_micro(gateway.clock.now());
    let spec = json!({
        "holderIdentity": gateway.settings.role.identity, "renewTime": now, "leaseDurationSeconds": DURATION.as_secs(),
    });
    let manager = PatchParams { field_manager: Some(GATEWAY_MANAGER.to_owned()), ..PatchParams::default() };
    match bounded(api.patch(&name(gateway), &manager, &Patch::Merge(json!({ "spec": spec })))).await {
        Err(error) if error.is_not_found() => {
            let params = PostParams { field_manager: Some(GATEWAY_MANAGER.to_owned()), ..PostParams::default() };
            bounded(api.create(&params, &lease(gateway, spec)?)).await.map(drop)
        }
        renewed => renewed.map(drop),
    }
}

fn lease(gateway: &Gateway, spec: Value) -> Result<Lease, CallError> {
    let mut metadata = json!({
        "name": name(gateway),
        "labels": { OBSERVER_LABEL: "gateway", "app.kubernetes.io/part-of": "berth" },
    });
    // What a pod leaves that died goes with it.
    if let Some(uid) = &gateway.settings.pod_uid {
        metadata["ownerReferences"] =
            json!([{ "apiVersion": "v1", "kind": "Pod", "name": gateway.settings.role.identity, "uid": uid }]);
    }
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec }))
        .map_err(|error| CallError::Unreadable { what: "a Lease", error })
}

fn leases(gateway: &Gateway) -> Api<Lease> {
    Api::namespaced(gateway.client.clone(), &gateway.settings.role.namespace)
}

/// The Lease is called after the process, which is called after its pod.
fn name(gateway: &Gateway) -> String {
    observer(&gateway.settings.role.identity)
}

/// What an observation names who has this identity by.
pub fn observer(identity: &str) -> String {
    format!("observer.{identity}")
}
