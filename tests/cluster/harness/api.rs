//! The REST API as its callers have it: over a forwarded port of the installed gateway, with tokens of real accounts.

use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{Forward, Scene};

/// The forwarded port; one for all tests of this process.
static GATEWAY: OnceCell<Forward> = OnceCell::const_new();

async fn port() -> u16 {
    let forward = async || Forward::to("berth-system", "service/berth-gateway", "http");
    GATEWAY.get_or_init(forward).await.port
}

/// The gateway's URL, on this machine.
pub async fn gateway() -> String {
    format!("http://127.0.0.1:{}", port().await)
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// What an error says.
    pub fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }
}

/// Somebody with a token.
#[derive(Clone, Debug)]
pub struct Person {
    /// The Kubernetes username.
    pub username: String,
    pub token: String,
}

impl Person {
    /// An account of this scene, bound to these ClusterRoles here.
    pub async fn new(scene: &Scene, name: &str, roles: &[&str]) -> Self {
        scene.create::<ServiceAccount>(json!({ "metadata": { "name": name } })).await;
        let person = Self::with_audience(scene, name, "berth").await;
        for role in roles {
            person.bind(scene, role).await;
        }
        person
    }

    /// The same account with a token for somebody else.
    pub async fn with_audience(scene: &Scene, name: &str, audience: &str) -> Self {
        let spec = TokenRequestSpec { audiences: vec![audience.to_owned()], ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = scene.api::<ServiceAccount>().create_token_request(name, &PostParams::default(), &request).await;
        Self {
            username: format!("system:serviceaccount:{}:{name}", scene.namespace),
            token: answer.unwrap().status.unwrap().token,
        }
    }

    /// Binds the person to a ClusterRole in a scene.
    pub async fn bind(&self, scene: &Scene, role: &str) {
        let parts: Vec<&str> = self.username.split(':').collect();
        let binding = json!({
            "metadata": { "generateName": "person-" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "kind": "ServiceAccount", "namespace": parts[2], "name": parts[3] }],
        });
        scene.create::<RoleBinding>(binding).await;
    }

    pub async fn get(&self, path: &str) -> Answer {
        call("GET", path, Some(&self.token), None, &[]).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        call("POST", path, Some(&self.token), Some(body.to_string()), &[]).await
    }

    pub async fn post_with(&self, path: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        call("POST", path, Some(&self.token), Some(body.to_string()), headers).await
    }

    /// The person's session with this id.
    pub async fn session(&self, id: &str) -> Value {
        let answer = self.get(&format!("/api/sessions/{id}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// Waits until the API knows that the person may launch this Workspace: watches and roles take a moment.
    pub async fn sees(&self, scene: &Scene, workspace: &str) {
        let path = format!("/api/workspaces/{workspace}?organization={}", scene.namespace);
        scene
            .eventually("the API shows the Workspace", || async {
                let answer = self.get(&path).await;
                (answer.body["status"] == "available").then_some(())
            })
            .await;
    }

    /// Launches, which must come to something; the session's id.
    pub async fn launch(&self, workspace: &str) -> String {
        let answer = self.post(&format!("/api/workspaces/{workspace}/launch"), json!({})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["session_id"].as_str().unwrap().to_owned()
    }

    /// Reads a stream of events, line by line, until `enough` says so.
    pub async fn listen(&self, since: Option<&str>, mut enough: impl FnMut(&str) -> bool) -> String {
        let mut request = http::Request::get(format!("http://127.0.0.1:{}/api/sessions/events", port().await))
            .header("authorization", format!("Bearer {}", self.token));
        if let Some(since) = since {
            request = request.header("last-event-id", since);
        }
        let answer = client().request(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        let (mut body, mut heard) = (answer.into_body(), String::new());
        while !enough(&heard) {
            let frame = tokio::time::timeout(std::time::Duration::from_secs(60), body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("nothing more came after {heard}")).unwrap().unwrap();
            heard.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap_or(&bytes::Bytes::new())));
        }
        heard
    }
}

fn client() -> HttpClient<HttpConnector, Full<bytes::Bytes>> {
    HttpClient::builder(TokioExecutor::new()).build_http()
}

/// Calls the API as anybody may.
pub async fn call(
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<String>,
    headers: &[(&str, &str)],
) -> Answer {
    call_at(port().await, method, path, token, body, headers).await
}

/// Calls the API of the gateway at this port of loopback.
pub async fn call_at(
    port: u16,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<String>,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = http::Request::builder().method(method).uri(format!("http://127.0.0.1:{port}{path}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(bytes::Bytes::from(body.unwrap_or_default()));
    let answer = client().request(request.body(body).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}
