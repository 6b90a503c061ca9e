//! The operator under test: who leads, and how it is made to start anew. In the cluster it is a pod, which is
//! deleted; elsewhere somebody must say how, in BERTH_TEST_RESTART.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;

use super::Scene;

const NAMESPACE: &str = "berth-system";
const LEASE: &str = "berth-operator";

/// Who leads.
pub async fn leader(scene: &Scene) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), NAMESPACE);
    leases.get_opt(LEASE).await.unwrap()?.spec?.holder_identity.filter(|holder| !holder.is_empty())
}

/// Restarts the operator; returns when another one leads.
pub async fn restart(scene: &Scene) {
    let before = scene.eventually("somebody leads", || leader(scene)).await;
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), NAMESPACE);
    if pods.get_opt(&before).await.unwrap().is_some() {
        pods.delete(&before, &DeleteParams::default()).await.unwrap();
    } else {
        let Ok(command) = std::env::var("BERTH_TEST_RESTART") else {
            panic!("{before} leads and is no pod of {NAMESPACE}: say in BERTH_TEST_RESTART how to restart it")
        };
        let done = std::process::Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(done.success(), "{command}: {done}");
    }
    scene
        .eventually("another one leads", || async {
            leader(scene).await.filter(|holder| *holder != before).map(|_| ())
        })
        .await;
}
