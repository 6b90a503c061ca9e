//! Launches by the REST API, each beside a bare creation of the Session and the wait for the operator's verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::Api;
use serde_json::{Value, json};

use super::{Bench, Report, lasting};
use crate::access::apply;
use crate::figure::{Budget, Figure};
use crate::gateway::{Gateway, Http};
use crate::ground::{PATIENCE, Side};
use crate::load::quantile_of;

/// One after the other, taking turns.
pub async fn run(bench: &Bench) -> Result<Report> {
    let mut report = Report::default();
    let ground = bench.ground("calls", Side::Berth, &lasting()).await?;
    let ana = bench.access.person(ground.namespace(), "ana", Some("berth")).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "ana"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "berth-user"},
        "subjects": [{"kind": "ServiceAccount", "name": "ana", "namespace": ground.namespace()}],
    });
    let bindings: Api<RoleBinding> = Api::namespaced(bench.access.admin.clone(), ground.namespace());
    apply(&bindings, "ana", &binding).await?;
    let gateway = Gateway::start(&bench.access, &bench.out).await?;
    let http = Http::new();
    let path = format!("/api/workspaces/desk/launch?organization={}", ground.namespace());
    let mut names = Vec::new();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    // The first of each is for the connections.
    for turn in 0..=bench.size(60, 3) {
        let name = format!("bare-{turn}");
        let begun = Instant::now();
        ground.launch(&name).await?;
        ground.observer.until_named(&name, PATIENCE, |sight| sight.begun.is_some()).await?;
        let floor = begun.elapsed();
        settle(&ground, &name).await?;
        let begun = Instant::now();
        let (status, body) = http.post(gateway.address, &path, &ana.token, "{}").await?;
        let called = begun.elapsed();
        ensure!(status == 200, "a launch is answered by {status}: {}", String::from_utf8_lossy(&body));
        let body: Value = serde_json::from_slice(&body)?;
        let launched = body["session_name"].as_str().context("a launch names its session")?.to_owned();
        settle(&ground, &launched).await?;
        if turn > 0 {
            bare.push(floor.as_secs_f64() * 1000.0);
            ours.push(called.as_secs_f64() * 1000.0);
        }
        names.extend([name, launched]);
    }
    report.figures.extend([
        Figure::timed("a launch by the API, median", "ms", quantile_of(&ours, 0.5), Budget::TimesFloor(1.3))
            .beside(quantile_of(&bare, 0.5)),
        Figure::timed("a launch by the API, p90", "ms", quantile_of(&ours, 0.9), Budget::Told)
            .beside(quantile_of(&bare, 0.9)),
    ]);
    report.data = json!({"bareMs": bare, "apiMs": ours});
    drop(gateway);
    for name in &names {
        ground.end(name).await?;
    }
    ground
        .observer
        .until("ended", names.len(), PATIENCE, |sight| sight.ended.is_some() || sight.gone.is_some())
        .await?;
    report.leave(ground).await?;
    Ok(report)
}

/// Waits until a session is Active and what followed is over.
async fn settle(ground: &Arc<crate::ground::Ground>, name: &str) -> Result<()> {
    ground.observer.until_named(name, PATIENCE, |sight| sight.active.is_some()).await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}
