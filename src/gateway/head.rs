//! The head of the audit, published where who writes to the store cannot change it: in a ConfigMap of Berth's namespace, and
//! in the log. Owns how often; without growth nothing is written.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Gateway;
use crate::api::GATEWAY_MANAGER;
use crate::cluster::error::{bounded, optional};
use crate::store::audit::Head;

/// The ConfigMap.
const NAME: &str = "berth-audit-head";
/// The pause between two writes: what a cut could hide is no more than what was recorded meanwhile.
const PAUSE: Duration = Duration::from_secs(10);

/// Publishes the head whenever it has moved, until the process ends.
pub async fn run(gateway: Arc<Gateway>) {
    let mut published = None;
    // What stood when this process began was perhaps not published by the one before.
    gateway.grown.notify_one();
    loop {
        gateway.grown.notified().await;
        match publish(&gateway, published.as_ref()).await {
            Ok(head) => published = head,
            Err(error) => {
                tracing::warn!(error, "the head of the audit could not be published");
                gateway.grown.notify_one();
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The head as it is published.
fn read(text: &str) -> Option<Head> {
    let (seq, hash) = text.split_once(':')?;
    Some(Head { seq: seq.parse().ok()?, hash: hash.to_owned() })
}

async fn publish(gateway: &Gateway, published: Option<&Head>) -> Result<Option<Head>, String> {
    let head = gateway.store.head().await.map_err(|error| error.to_string())?;
    let Some(head) = head.filter(|head| Some(head) != published) else { return Ok(published.cloned()) };
    let namespace = &gateway.settings.role.namespace;
    let api: Api<ConfigMap> = Api::namespaced(gateway.client.clone(), namespace);
    let stands = optional(api.get(NAME)).await.map_err(|error| error.words())?;
    if let Some(last) = stands.and_then(|map| read(map.data?.get("head")?)) {
        if last == head {
            return Ok(Some(head));
        }
        // Another replica may have written what this one has not read yet. Else the store has lost what was published.
        if last.seq >= head.seq {
            gateway.metrics.store_failures.inc();
            return Err(format!(
                "the chain ends at {}:{}, and {}:{} was published before: `berth audit verify --head` says what is missing",
                head.seq, head.hash, last.seq, last.hash
            ));
        }
    }
    let body = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": NAME, "namespace": namespace, "labels": { "app.kubernetes.io/part-of": "berth" } },
        "data": { "head": format!("{}:{}", head.seq, head.hash) },
    });
    let params = PatchParams::apply(GATEWAY_MANAGER).force();
    bounded(api.patch(NAME, &params, &Patch::Apply(body))).await.map_err(|error| error.words())?;
    tracing::info!(seq = head.seq, hash = head.hash, "the audit has grown");
    Ok(Some(head))
}
