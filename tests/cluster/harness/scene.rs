//! A namespace for one test: how it is made and goes, how objects get into it, and how a test waits for what is to
//! happen in it.

use std::fmt::Debug;
use std::process::Command;
use std::time::Duration;

use berth::api::condition::{self, Condition, Type};
use berth::api::session::Phase;
use berth::api::workspace::WorkspacePhase;
use berth::api::{Reason, Session, SessionPolicy, Workspace};
use berth::cluster::connection;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::build::{end, merged, phase, session_spec, status, was_looked_at, workspace_spec};
use super::record::{Record, Story};

/// How long a test waits for anything. It only bounds a failure: no test asserts that something was quick.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it looks.
const GLANCE: Duration = Duration::from_millis(250);

/// A namespace for one test. It goes when the scene is dropped, also when the test failed.
pub struct Scene {
    /// The connection.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    record: Record,
}

/// The cluster of KUBECONFIG.
async fn config() -> Config {
    let hint = "bring one up with `cargo xtask cluster up`, then `eval \"$(cargo xtask cluster env)\"`";
    let Ok(kubeconfig) = Kubeconfig::from_env() else { panic!("KUBECONFIG cannot be read: {hint}") };
    let Some(kubeconfig) = kubeconfig else { panic!("there is no cluster, since KUBECONFIG is not set: {hint}") };
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap_or_else(|error| panic!("KUBECONFIG names no cluster ({error}): {hint}"))
}

/// A kind of namespaced objects that a test reads and writes.
pub trait Kind: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned {}

impl<K> Kind for K where K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{}

impl Scene {
    /// The connection to the cluster of KUBECONFIG.
    pub async fn client() -> Client {
        Client::try_from(config().await).unwrap()
    }

    /// A connection to it by a token.
    pub async fn client_with(token: &str) -> Client {
        let mut config = config().await;
        config.auth_info = serde_json::from_value(json!({ "token": token })).unwrap();
        Client::try_from(config).unwrap()
    }

    /// A namespace beside those of other tests.
    pub async fn new(name: &str) -> Self {
        let client = Self::client().await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        // Whatever Berth makes runs where nothing else may.
        let labels = json!({ "berth-test": "cluster", "pod-security.kubernetes.io/enforce": "restricted" });
        let wanted = json!({ "metadata": { "generateName": format!("t-{name}-"), "labels": labels } });
        let made = namespaces.create(&PostParams::default(), &serde_json::from_value(wanted).unwrap()).await;
        let made = made.unwrap_or_else(|error| {
            panic!("the cluster of KUBECONFIG makes no namespace ({error}): is it up? `cargo xtask cluster up`")
        });
        let namespace = made.name_any();
        let scene = Self { record: Record::start(&client, &namespace), client, namespace };
        // Without its account the namespace refuses every pod.
        scene.eventually("the namespace has its account", || scene.find::<ServiceAccount>("default")).await;
        scene
    }

    /// The objects of one kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates an object of this kind; `body` is everything but kind and namespace.
    pub async fn create<K: Kind>(&self, body: Value) -> K {
        self.try_create(body).await.unwrap_or_else(|error| panic!("{} was refused: {error}", K::kind(&())))
    }

    /// As [`Scene::create`], with the API server's refusal as an answer.
    pub async fn try_create<K: Kind>(&self, body: Value) -> Result<K, kube::Error> {
        // As it is written: a typed body would drop or refuse what the API server is to judge.
        let kind = json!({ "apiVersion": K::api_version(&()), "kind": K::kind(&()) });
        let body = serde_json::to_vec(&merged(kind, body)).unwrap();
        let path = K::url_path(&(), Some(&self.namespace));
        let request = http::Request::post(path).header("content-type", "application/json").body(body).unwrap();
        self.client.request(request).await
    }

    /// A Workspace of pods that become ready at once, as the operator has looked at it; `more` goes over its spec.
    pub async fn workspace(&self, name: &str, more: Value) -> Workspace {
        self.create::<Workspace>(json!({ "metadata": { "name": name }, "spec": workspace_spec(more) })).await;
        self.eventually(&format!("Workspace {name} was looked at"), || async {
            self.find::<Workspace>(name).await.filter(was_looked_at)
        })
        .await
    }

    /// A SessionPolicy.
    pub async fn policy(&self, name: &str, spec: Value) -> SessionPolicy {
        self.create(json!({ "metadata": { "name": name }, "spec": spec })).await
    }

    /// A Session of the user ana on `workspace`; `more` goes over its spec.
    pub async fn session(&self, name: &str, workspace: &str, more: Value) -> Session {
        self.create(json!({ "metadata": { "name": name }, "spec": session_spec(workspace, more) })).await
    }

    /// The object as it is now.
    pub async fn get<K: Kind>(&self, name: &str) -> K {
        self.api::<K>().get(name).await.unwrap_or_else(|error| panic!("{} {name}: {error}", K::kind(&())))
    }

    /// The object, if it is there.
    pub async fn find<K: Kind>(&self, name: &str) -> Option<K> {
        self.api::<K>().get_opt(name).await.unwrap()
    }

    /// All objects of a kind.
    pub async fn list<K: Kind>(&self) -> Vec<K> {
        self.api::<K>().list(&ListParams::default()).await.unwrap().items
    }

    /// Merges `patch` into the object.
    pub async fn patch<K: Kind>(&self, name: &str, patch: Value) -> K {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
    }

    /// Merges `patch` into the status of a session, as its observer does.
    pub async fn observe(&self, session: &str, patch: Value) -> Result<Session, kube::Error> {
        let params = PatchParams { field_manager: Some("observer".to_owned()), ..PatchParams::default() };
        self.api::<Session>().patch_status(session, &params, &Patch::Merge(json!({ "status": patch }))).await
    }

    /// Its user ends the session.
    pub async fn disconnect(&self, session: &str) {
        self.patch::<Session>(session, json!({ "spec": { "desiredState": "Disconnected" } })).await;
    }

    /// Waits until the Workspace is in this phase.
    pub async fn workspace_phase(&self, workspace: &str, phase: WorkspacePhase) {
        self.eventually(&format!("Workspace {workspace} is {phase:?}"), || async {
            (self.find::<Workspace>(workspace).await?.status?.phase == Some(phase)).then_some(())
        })
        .await;
    }

    /// Deletes the object, as `kubectl delete --wait=false` does.
    pub async fn delete<K: Kind>(&self, name: &str) {
        self.api::<K>().delete(name, &DeleteParams::background()).await.unwrap();
    }

    /// Waits until the session is in this phase; fails at once where it has ended in another.
    pub async fn phase(&self, session: &str, wanted: Phase) -> Session {
        let sentence = format!("Session {session} is {}", wanted.as_str());
        let reached = self
            .eventually(&sentence, || async {
                self.find::<Session>(session)
                    .await
                    .filter(|session| phase(session) == Some(wanted) || end(session).is_some())
            })
            .await;
        if phase(&reached) != Some(wanted) {
            panic!("it has ended before: {sentence}\n{}", self.picture().await);
        }
        self.caught_up(&reached).await;
        reached
    }

    /// Waits until the session could be used; by now it may be idle, or have ended.
    pub async fn usable(&self, session: &str) -> Session {
        self.eventually(&format!("Session {session} became usable"), || async {
            self.find::<Session>(session).await.filter(|session| status(session).ready_at.is_some())
        })
        .await
    }

    /// Waits until the session has ended, in this phase and for this reason.
    pub async fn ended(&self, session: &str, phase: Phase, reason: Reason) -> Session {
        let sentence = format!("Session {session} has ended as {}/{}", phase.as_str(), reason.as_str());
        let ended = self
            .eventually(&sentence, || async {
                self.find::<Session>(session).await.filter(|session| end(session).is_some())
            })
            .await;
        assert_eq!(end(&ended), Some((phase, reason)), "{sentence}: {:?}", ended.status);
        self.caught_up(&ended).await;
        ended
    }

    /// Waits until the condition of the session has this status.
    pub async fn condition(&self, session: &str, type_: Type, status: condition::Status) -> Condition {
        self.eventually(&format!("Session {session} has {} {status:?}", type_.as_str()), || async {
            let conditions = self.find::<Session>(session).await?.status?.conditions;
            condition::find(&conditions, type_).filter(|condition| condition.status == status).cloned()
        })
        .await
    }

    /// Waits until nothing holds the session back from being deleted: the end is told first, and let go of then.
    pub async fn let_go(&self, session: &str) {
        self.eventually(&format!("nothing holds Session {session}"), || async {
            self.find::<Session>(session).await.is_none_or(|session| session.finalizers().is_empty()).then_some(())
        })
        .await;
    }

    /// What kubectl prints about this namespace.
    pub fn kubectl(&self, words: &[&str]) -> String {
        let output = Command::new("kubectl").args(["--namespace", &self.namespace]).args(words).output().unwrap();
        assert!(output.status.success(), "kubectl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until no pod is left in the namespace.
    pub async fn no_pods(&self) {
        self.eventually("no pod is left", || async { self.list::<Pod>().await.is_empty().then_some(()) }).await;
    }

    /// Asks for the pod's eviction, once: kube's own client would ask again and again where a budget says no.
    pub async fn evict(&self, pod: &str) -> Result<(), kube::Error> {
        let client = connection::client(&config().await, |_, _| {}).unwrap();
        Api::<Pod>::namespaced(client, &self.namespace).evict(pod, &EvictParams::default()).await.map(drop)
    }

    /// Waits until the object is gone.
    pub async fn gone<K: Kind>(&self, name: &str) {
        let sentence = format!("{} {name} is gone", K::kind(&()));
        self.eventually(&sentence, || async { self.find::<K>(name).await.is_none().then_some(()) }).await;
    }

    /// The pods of the session, going ones included.
    pub async fn pods_of(&self, session: &Session) -> Vec<Pod> {
        let label = format!("{}={}", berth::api::SESSION_UID_LABEL, session.uid().unwrap());
        self.api::<Pod>().list(&ListParams::default().labels(&label)).await.unwrap().items
    }

    /// The reasons of the events about the object of this name, the oldest first.
    pub async fn events(&self, name: &str) -> Vec<String> {
        self.events_of(name).await.into_iter().filter_map(|event| event.reason).collect()
    }

    /// The events about the object of this name, the oldest first.
    pub async fn events_of(&self, name: &str) -> Vec<Event> {
        let about = |event: &Event| event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some(name);
        let mut events: Vec<Event> = self.list::<Event>().await.into_iter().filter(about).collect();
        events.sort_by_key(|event| event.event_time.clone().map(|time| time.0));
        events
    }

    /// Waits for an event about the object of this name.
    pub async fn event(&self, name: &str, reason: &str) -> Event {
        self.eventually(&format!("{name} has an event {reason}"), || async {
            self.events_of(name).await.into_iter().find(|event| event.reason.as_deref() == Some(reason))
        })
        .await
    }

    /// Waits until the watch has brought what a look at the session has shown.
    async fn caught_up(&self, session: &Session) {
        let version = |session: &Session| session.resource_version().and_then(|version| version.parse::<u64>().ok());
        self.eventually("the watch has caught up", || async {
            let story = self.record.story(&session.name_any());
            story.0.last().is_some_and(|last| version(last) >= version(session)).then_some(())
        })
        .await;
    }

    /// What the watch has brought of the session so far.
    pub fn seen(&self, session: &str) -> Story {
        self.record.story(session)
    }

    /// The story of the session up to its end.
    pub async fn story(&self, session: &str) -> Story {
        self.eventually(&format!("the end of {session} was watched"), || async {
            let story = self.record.story(session);
            story.0.last().and_then(end).map(|_| story)
        })
        .await
    }

    /// Looks until `look` finds something. Gives up after [`PATIENCE`], and then says what it saw.
    pub async fn eventually<T, F>(&self, sentence: &str, mut look: impl FnMut() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                let broken = self.record.broken();
                assert!(broken.is_empty(), "seen what must never happen: {broken:#?}");
                return found;
            }
            if tokio::time::Instant::now() > patience {
                panic!("not within {} s: {sentence}\n{}", PATIENCE.as_secs(), self.picture().await);
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Everything in the namespace that a failure may be understood by.
    pub async fn picture(&self) -> String {
        let mut lines = vec![format!("namespace {}:", self.namespace)];
        for session in self.list::<Session>().await {
            lines.push(picture_of(&session, &session.spec, &session.status));
        }
        for workspace in self.list::<Workspace>().await {
            lines.push(picture_of(&workspace, &workspace.spec, &workspace.status));
        }
        for policy in self.list::<SessionPolicy>().await {
            lines.push(picture_of(&policy, &policy.spec, &()));
        }
        for pod in self.list::<Pod>().await {
            let status = pod.status.clone().unwrap_or_default();
            lines.push(picture_of(&pod, &status.phase, &status.conditions));
            lines.push(format!("    {}", json!(status.container_statuses)));
        }
        lines.push("events:".to_owned());
        for event in self.list::<Event>().await {
            let about = event.regarding.unwrap_or_default();
            lines.push(format!(
                "  {}/{} {}: {}",
                about.kind.unwrap_or_default(),
                about.name.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.note.unwrap_or_default()
            ));
        }
        lines.extend(self.record.broken());
        lines.join("\n")
    }
}

fn picture_of<K: Resource<DynamicType = ()>>(
    object: &K,
    spec: &impl serde::Serialize,
    status: &impl serde::Serialize,
) -> String {
    let meta = object.meta();
    let going = if meta.deletion_timestamp.is_some() { ", being deleted" } else { "" };
    let held = meta.finalizers.clone().unwrap_or_default();
    format!("  {} {}{going} {held:?}\n    {}\n    {}", K::kind(&()), object.name_any(), json!(spec), json!(status))
}

impl Drop for Scene {
    /// Asks for the end of the namespace, and leaves the rest to the cluster. The test's own runtime is inside of
    /// this call, so that another one must make the request.
    fn drop(&mut self) {
        let namespace = self.namespace.clone();
        let request = async move {
            let client = Client::try_from(config().await).ok()?;
            let api: Api<Namespace> = Api::all(client);
            tokio::time::timeout(Duration::from_secs(10), api.delete(&namespace, &DeleteParams::background()))
                .await
                .ok()
        };
        let deletion = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(request).is_some())
        });
        // A namespace that stays is no failure of what was tested.
        let _ = deletion.join();
    }
}
