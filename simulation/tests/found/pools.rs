//! Pools in the middle of something: what comes together in these was met too seldom by the dice of trials.

use super::*;

/// The operator's requests of this verb for pods take a while until they are done.
struct SlowAboutPods(Verb);

impl Fate for SlowAboutPods {
    fn before(&self, call: &Call) -> BoxFuture<'static, Before> {
        let waits = call.who == "operator" && call.verb == self.0 && call.kind.resource() == "pods";
        Box::pin(async move {
            sleep(Duration::from_secs(if waits { 2 } else { 0 })).await;
            Before::Pass
        })
    }
}

/// Somebody changes the Workspace.
async fn edit(server: &ApiServer, patch: Value) {
    let api: Api<Workspace> = Api::namespaced(server.client("people"), "demo");
    api.patch("desk", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// A pool of so many, once they wait.
async fn filled(server: &ApiServer, count: i64) {
    offer(server);
    edit(server, json!({ "spec": { "maxSessions": 5, "warm": { "replicas": count } } })).await;
    eventually("the pool is full", || is_full(server, count)).await;
}

fn is_full(server: &ApiServer, count: i64) -> Option<()> {
    let workspace = server.object("workspaces.berth.dev", "demo", "desk")?;
    (workspace["status"]["warm"]["ready"] == count).then_some(())
}

/// The names of the pods that nobody deletes.
fn pods(server: &ApiServer) -> Vec<String> {
    let pods = server.objects("pods");
    let stays = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    stays.filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned())).collect()
}

/// The session stays in use, in the one pod that there is.
async fn is_left_in_peace(server: &ApiServer) -> String {
    eventually("the session is active", || is_active(server)).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(is_active(server), Some(()), "it lost its instance");
    let session = server.object("sessions.berth.dev", "demo", "mine").unwrap();
    let pod = session["status"]["instance"]["pod"].as_str().unwrap().to_owned();
    assert_eq!(pods(server), [pod.as_str()]);
    pod
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_a_pool_gives_up_stays_with_the_session_that_adopted_it_before_it_went() {
    let server = cluster(Arc::new(SlowAboutPods(Verb::Delete)));
    filled(&server, 1).await;
    let waited = pods(&server);
    edit(&server, json!({ "spec": { "warm": { "replicas": 0 } } })).await;
    // Its deletion is under way, and nobody knows that yet.
    sleep(Duration::from_millis(500)).await;
    launch(&server);
    assert_eq!([is_left_in_peace(&server).await], waited[..]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_goes_in_the_middle_of_an_adoption_takes_nothing_from_the_session() {
    let server = cluster(Arc::new(SlowAboutPods(Verb::Patch)));
    filled(&server, 1).await;
    let waited = pods(&server);
    launch(&server);
    sleep(Duration::from_millis(500)).await;
    edit(&server, json!({ "spec": { "warm": null } })).await;
    assert_eq!([is_left_in_peace(&server).await], waited[..]);
}

#[tokio::test(start_paused = true)]
async fn a_workspace_that_goes_in_the_middle_of_an_adoption_leaves_no_pod() {
    let server = cluster(Arc::new(SlowAboutPods(Verb::Patch)));
    filled(&server, 2).await;
    launch(&server);
    sleep(Duration::from_millis(500)).await;
    let api: Api<Workspace> = Api::namespaced(server.client("people"), "demo");
    api.delete("desk", &DeleteParams::default()).await.unwrap();
    eventually("all pods are gone", || server.objects("pods").is_empty().then_some(())).await;
    assert_eq!(is_active(&server), None);
}

#[tokio::test(start_paused = true)]
async fn a_pool_leaves_a_node_that_is_being_drained_and_is_full_again_on_another() {
    let server = cluster(Arc::new(berth_simulation::apiserver::fate::Kind));
    filled(&server, 3).await;
    drain(&server);
    let left = || {
        let pods = server.objects("pods");
        pods.iter().all(|pod| pod["spec"]["nodeName"] == "node-2").then_some(())
    };
    eventually("nothing is left on the node", left).await;
    eventually("the pool is full", || is_full(&server, 3)).await;
    assert_eq!(pods(&server).len(), 3);
}
