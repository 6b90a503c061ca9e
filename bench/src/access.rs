//! Who the benchmark is. It prepares the ground with the rights of the kubeconfig, and then loads the API server as a
//! service account: `system:masters` goes past the API server's own fairness, and would measure what no user has.

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Config};
use serde_json::{Value, json};

/// The namespace of the benchmark's own account.
pub const NAMESPACE: &str = "berth-bench";
/// The account, its role and its binding.
const NAME: &str = "berth-bench";
/// How long its token holds: longer than any run.
const TOKEN_SECONDS: i64 = 4 * 3600;

/// The two ways to the API server.
#[derive(Clone)]
pub struct Access {
    /// With the rights of the kubeconfig: for what is set up, restarted and removed.
    pub admin: Client,
    /// As the benchmark's service account: for all load.
    pub load: Client,
}

impl Access {
    /// Makes the account and its token.
    ///
    /// # Errors
    /// When there is no cluster, or when it does not let us.
    pub async fn prepare() -> Result<Self> {
        let config = Config::infer().await.context("no cluster: set KUBECONFIG")?;
        let admin = connect(&config)?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        apply(&Api::<Namespace>::all(admin.clone()), NAMESPACE, &namespace).await?;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME}});
        let accounts = Api::<ServiceAccount>::namespaced(admin.clone(), NAMESPACE);
        apply(&accounts, NAME, &account).await?;
        apply(&Api::<ClusterRole>::all(admin.clone()), NAME, &role()).await?;
        apply(&Api::<ClusterRoleBinding>::all(admin.clone()), NAME, &binding()).await?;
        let token = token(&accounts, NAME, None).await?;
        let mut config = config;
        config.auth_info = kube::config::AuthInfo { token: Some(token.into()), ..Default::default() };
        Ok(Self { admin, load: connect(&config)? })
    }
}

/// Somebody with an account of this cluster.
#[derive(Clone, Debug)]
pub struct Person {
    /// The Kubernetes username.
    pub username: String,
    /// Their token.
    pub token: String,
}

impl Access {
    /// An account in this namespace, with a token for the gateway or, without an audience, for the API server.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn person(&self, namespace: &str, name: &str, audience: Option<&str>) -> Result<Person> {
        let accounts = Api::<ServiceAccount>::namespaced(self.admin.clone(), namespace);
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        apply(&accounts, name, &account).await?;
        let token = token(&accounts, name, audience).await?;
        Ok(Person { username: format!("system:serviceaccount:{namespace}:{name}"), token })
    }
}

async fn token(accounts: &Api<ServiceAccount>, name: &str, audience: Option<&str>) -> Result<String> {
    let spec = TokenRequestSpec {
        audiences: audience.map(str::to_owned).into_iter().collect(),
        expiration_seconds: Some(TOKEN_SECONDS),
        ..TokenRequestSpec::default()
    };
    let asked = TokenRequest { spec, ..TokenRequest::default() };
    let given = accounts.create_token_request(name, &PostParams::default(), &asked).await?;
    Ok(given.status.context("a token request is answered by a token")?.token)
}

/// As the operator connects, so that the way is the same on both sides of a ratio.
fn connect(config: &Config) -> Result<Client> {
    berth::cluster::connection::client(config, |_, _| {})
}

/// Makes the object what it should be, whoever made it before.
pub async fn apply<K>(api: &Api<K>, name: &str, object: &Value) -> Result<K>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let how = PatchParams::apply("berth-bench").force();
    api.patch(name, &how, &Patch::Apply(object)).await.with_context(|| format!("cannot make {name}"))
}

fn role() -> Value {
    let all = json!(["get", "list", "watch", "create", "patch", "delete"]);
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": NAME},
        "rules": [
            {"apiGroups": ["berth.dev", "floor.berth.dev"], "resources": ["*"], "verbs": all},
            // It launches and ends in the name of people, as a program of somebody's would.
            {"apiGroups": ["berth.dev"], "resources": ["sessions"], "verbs": ["onbehalf", "end"]},
            {"apiGroups": ["berth.dev"], "resources": ["workspaces"], "verbs": ["launch"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": all},
            // What owns the pool of the floor.
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
            {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
        ],
    })
}

fn binding() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": NAME},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    })
}
