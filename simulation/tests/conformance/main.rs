//! The simulated API server beside a real one: random requests, and the same answers. Needs a cluster with Berth's
//! kinds (`KUBECONFIG`); makes its own namespaces and deletes them.
//!
//! `BERTH_SEEDS` says how many sequences, `BERTH_SEED` the first. Where an operator leads, it would write to Sessions
//! and Workspaces between the requests, and Kubernetes' controllers to claims: those are then only tried, not stored. All
//! is compared on an API server alone, with nothing but Berth's kinds.

#![expect(clippy::unwrap_used, reason = "a test says what must be so")]

mod normal;
mod objects;
mod sequence;
mod side;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use berth_simulation::{ApiServer, Dice, SimClock};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::json;

use sequence::{Others, Step, run, steps};
use side::Side;

/// How many namespaces are used at once.
const LANES: u64 = 8;

#[tokio::test]
async fn random_requests_are_answered_as_by_a_real_api_server() {
    let client = Client::try_default().await.expect("a cluster: eval \"$(cargo xtask cluster env)\"");
    let number = |name: &str, default: u64| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (first, count) = (number("BERTH_SEED", 1), number("BERTH_SEEDS", 500));
    let others =
        Others { operator: leads(&client, berth::operator::LEASE).await, controllers: controllers_work(&client).await };
    let run_id = format!("{:x}", std::process::id());
    let next = Arc::new(AtomicU64::new(first));
    let lanes = (0..LANES.min(count)).map(|lane| {
        let (client, next, namespace) =
            (client.clone(), Arc::clone(&next), format!("berth-conformance-{run_id}-{lane}"));
        tokio::spawn(async move {
            let real = Side::real(client, &namespace);
            real.begin().await;
            let mut differences = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count {
                    break;
                }
                differences.extend(compare(&real, &namespace, seed, others).await);
            }
            real.end().await;
            differences
        })
    });
    let mut differences = Vec::new();
    for lane in futures::future::join_all(lanes).await {
        differences.extend(lane.unwrap());
    }
    let shown: Vec<&str> = differences.iter().take(number("BERTH_SHOW", 5) as usize).map(String::as_str).collect();
    assert!(differences.is_empty(), "{} of {count} sequences differ:\n{}", differences.len(), shown.join("\n"));
}

/// Whether somebody leads by a lease of this name.
async fn leads(client: &Client, name: &str) -> bool {
    let leases: Api<Lease> = Api::all(client.clone());
    let named = ListParams::default().fields(&format!("metadata.name={name}"));
    let held = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()).is_some();
    leases.list(&named).await.unwrap().iter().any(held)
}

/// Whether Kubernetes' controllers work on this cluster: one of them gives every namespace this object.
async fn controllers_work(client: &Client) -> bool {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    api.get_opt("kube-root-ca.crt").await.unwrap().is_some()
}

/// Runs the sequence of a seed on both sides; where they differ, says so with the shortest sequence that does.
async fn compare(real: &Side, namespace: &str, seed: u64, others: Others) -> Option<String> {
    let mut steps = steps(&Dice::new(seed), others);
    let mut attempt = 0;
    let mut difference = differ(real, namespace, seed, &mut attempt, &steps).await?;
    let mut index = 0;
    while index < steps.len() {
        let mut fewer = steps.clone();
        fewer.remove(index);
        match differ(real, namespace, seed, &mut attempt, &fewer).await {
            Some(still) => (steps, difference) = (fewer, still),
            None => index += 1,
        }
    }
    let listed: Vec<String> = steps.iter().map(|step| format!("    {step:?}")).collect();
    Some(format!("seed {seed}:\n{}\n{difference}", listed.join("\n")))
}

async fn differ(real: &Side, namespace: &str, seed: u64, attempt: &mut u64, steps: &[Step]) -> Option<String> {
    *attempt += 1;
    let label = format!("s{seed}x{attempt}");
    let server = ApiServer::new(SimClock::new(), &Dice::new(seed));
    server.namespace(namespace);
    server.put("POST", &format!("/api/v1/namespaces/{namespace}/configmaps"), &objects::root()).unwrap();
    let simulated = Side::simulated(server, namespace);
    let (expected, got) = tokio::join!(run(real, &label, steps), run(&simulated, &label, steps));
    let (index, (expected, got)) =
        expected.iter().zip(&got).enumerate().find(|(_, (expected, got))| expected != got)?;
    let parts = normal::difference(expected, got, "");
    Some(format!("  answer {index} differs (real, simulated):\n    {}", parts.join("\n    ")))
}

#[test]
fn a_difference_is_told_by_its_path() {
    let parts = normal::difference(&json!({"a": [1, {"b": 2}]}), &json!({"a": [1, {"b": 3}], "c": 0}), "");
    assert_eq!(parts, [".a[1].b: 2, 3", ".c: nothing, 0"]);
}
