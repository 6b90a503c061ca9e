//! A namespace full of sessions on simulated nodes, on one of two sides: Berth's, where the operator brings them up, or
//! the floor's, where a bare client makes the same writes. Owns how a session is launched and ended on either side, and
//! what must hold when all is over.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::access::Access;
use crate::floor::{self, Floor, Pattern};
use crate::observer::{Observer, Session};
use crate::pods::Pods;

/// How long anything may take before the run is given up.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// Who brings the sessions up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The installed operator.
    Berth,
    /// A bare client.
    Floor,
}

impl Side {
    /// As tables and plots call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Berth => "berth",
            Self::Floor => "floor",
        }
    }

    fn group(self) -> &'static str {
        match self {
            Self::Berth => berth::api::GROUP,
            Self::Floor => floor::GROUP,
        }
    }
}

/// The resource that sessions of a side are.
pub fn sessions_of(side: Side) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(side.group(), berth::api::VERSION, "Session"), "sessions")
}

/// A namespace with its sessions, and who watches them.
pub struct Ground {
    /// Whose sessions they are.
    pub side: Side,
    /// What was seen of them.
    pub observer: Observer,
    /// What was seen of their pods.
    pub pods: Arc<Pods>,
    namespace: String,
    access: Access,
    sessions: Api<DynamicObject>,
    floor: Option<Floor>,
}

impl Ground {
    /// An empty namespace of this scenario, after what an earlier run may have left, under a policy of these rules, in which so
    /// many pods are ready for sessions. The floor makes its writes after this pattern.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn new(
        access: &Access,
        scenario: &str,
        side: Side,
        rules: &Value,
        warm: usize,
        pattern: Option<&Arc<Pattern>>,
    ) -> Result<Self> {
        let namespace = format!("bench-{scenario}-{}", side.name());
        clear(&access.admin, &namespace).await?;
        let new = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let namespaces = Api::<Namespace>::all(access.admin.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(new)?).await?;
        let resource = sessions_of(side);
        let sessions = Api::namespaced_with(access.load.clone(), &namespace, &resource);
        let watched: Api<Session> = Api::namespaced_with(access.load.clone(), &namespace, &resource);
        let observer = Observer::start(watched).await?;
        let pods = Pods::start(&access.load, &namespace).await?;
        let floor = match side {
            Side::Berth => {
                offer(&access.load, &namespace, rules, warm).await?;
                None
            }
            Side::Floor => {
                let pattern = pattern.context("the floor needs a pattern")?;
                Some(Floor::new(&access.load, &namespace, pattern, &pods, warm).await?)
            }
        };
        let begun = std::time::Instant::now();
        while pods.waiting() < warm {
            if begun.elapsed() > PATIENCE {
                bail!("{} of {warm} pods wait in {namespace}", pods.waiting());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Self { side, observer, pods, namespace, access: access.clone(), sessions, floor })
    }

    /// Creates a session.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn launch(&self, name: &str) -> Result<()> {
        self.launch_in("desk", name).await
    }

    /// Creates a session of this Workspace.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn launch_in(&self, workspace: &str, name: &str) -> Result<()> {
        let resource = sessions_of(self.side);
        let session = DynamicObject::new(name, &resource).data(json!({
            "spec": {"workspaceRef": {"name": workspace}, "user": {"id": format!("user-of-{name}")}},
        }));
        let made = self.sessions.create(&PostParams::default(), &session).await?;
        if let Some(floor) = &self.floor {
            floor.bring_up(name, made.metadata.uid.as_deref().unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// Offers another Workspace, like the first.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn offer(&self, workspace: &str) -> Result<()> {
        create(&self.access.load, &self.namespace, "Workspace", "workspaces", workspace, workspace_of(0)).await
    }

    /// Ends a session, as its user would.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn end(&self, name: &str) -> Result<()> {
        self.change(name, &json!({"spec": {"desiredState": "Disconnected"}})).await?;
        match &self.floor {
            Some(floor) => floor.take_down(name).await,
            None => Ok(()),
        }
    }

    /// Changes a session, as its user would.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn change(&self, name: &str, patch: &Value) -> Result<()> {
        self.sessions.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Makes all writes of an end without being asked by a user: the floor's deadline.
    ///
    /// # Errors
    /// When one is refused, or this is not the floor.
    pub async fn expire(&self, name: &str) -> Result<()> {
        self.floor.as_ref().context("nothing but the floor is told when to end")?.take_down(name).await
    }

    /// The sessions, as they stand.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn list(&self) -> Result<Vec<DynamicObject>> {
        Ok(self.sessions.list(&kube::api::ListParams::default()).await?.items)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Removes the namespace with all that is in it.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn abandon(self) -> Result<()> {
        clear(&self.access.admin, &self.namespace).await
    }

    /// Says what must not be when every session has ended, and removes the namespace.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn leave(self) -> Result<Vec<String>> {
        let mut broken = self.pods.broken();
        broken.extend(self.floor.as_ref().map(Floor::failures).unwrap_or_default());
        let unended = self.list().await?.iter().filter(|session| session.data["status"]["endedAt"].is_null()).count();
        if unended > 0 {
            broken.push(format!("{unended} sessions without an end"));
        }
        // Those that were told to go may still be going, as fast as their nodes are.
        let (mut standing, mut since) = (self.pods.standing(), std::time::Instant::now());
        while standing > 0 && since.elapsed() < Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let fewer = self.pods.standing();
            if fewer < standing {
                (standing, since) = (fewer, std::time::Instant::now());
            }
        }
        if standing > 0 {
            broken.push(format!("{standing} pods after every session has ended"));
        }
        clear(&self.access.admin, &self.namespace).await?;
        Ok(broken.into_iter().map(|words| format!("{}: {words}", self.namespace)).collect())
    }
}

/// The Workspace and the policy that Berth's sessions are of.
async fn offer(client: &Client, namespace: &str, rules: &Value, warm: usize) -> Result<()> {
    create(client, namespace, "SessionPolicy", "sessionpolicies", "default", json!({"spec": rules})).await?;
    create(client, namespace, "Workspace", "workspaces", "desk", workspace_of(warm)).await
}

/// A Workspace on simulated nodes, in which so many pods wait.
fn workspace_of(warm: usize) -> Value {
    let container = json!({"name": "main", "image": "simulated"});
    let mut workspace = json!({"spec": {
        "type": "web",
        "access": {"protocol": "HTTP", "port": 80},
        "maxSessions": 10_000,
        "template": {"spec": {
            "nodeSelector": {"type": "kwok"},
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
        }},
    }});
    if warm > 0 {
        workspace["spec"]["warm"] = json!({"replicas": warm});
    }
    workspace
}

async fn create(client: &Client, namespace: &str, kind: &str, plural: &str, name: &str, data: Value) -> Result<()> {
    let kind = GroupVersionKind::gvk(berth::api::GROUP, berth::api::VERSION, kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    api.create(&PostParams::default(), &DynamicObject::new(name, &resource).data(data)).await?;
    Ok(())
}

/// Removes a namespace, and waits until it is gone.
async fn clear(admin: &Client, namespace: &str) -> Result<()> {
    let namespaces = Api::<Namespace>::all(admin.clone());
    if namespaces.get_opt(namespace).await?.is_none() {
        return Ok(());
    }
    namespaces.delete(namespace, &DeleteParams::default()).await?;
    let begun = std::time::Instant::now();
    while namespaces.get_opt(namespace).await?.is_some() {
        if begun.elapsed() > PATIENCE {
            bail!("the namespace {namespace} does not go");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
