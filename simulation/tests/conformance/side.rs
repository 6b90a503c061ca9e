//! One of the two API servers. Owns how a request gets there and its answer back.

use std::time::Duration;

use berth_simulation::ApiServer;
use berth_simulation::apiserver::Answer;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, future};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::objects;

/// One API server, and the namespace that is used there.
pub struct Side {
    way: Way,
    pub namespace: String,
}

enum Way {
    Real(Client),
    Simulated(ApiServer),
}

/// A request.
pub struct Ask {
    pub method: &'static str,
    pub path: String,
    pub type_: &'static str,
    pub metadata_only: bool,
    pub body: Option<Value>,
}

/// The frames of a watch, as they come.
pub type Frames = BoxStream<'static, Bytes>;

impl Side {
    pub fn real(client: Client, namespace: &str) -> Self {
        Self { way: Way::Real(client), namespace: namespace.to_owned() }
    }

    pub fn simulated(server: ApiServer, namespace: &str) -> Self {
        Self { way: Way::Simulated(server), namespace: namespace.to_owned() }
    }

    /// Makes the namespace, with what pods need and what objects are owned by.
    pub async fn begin(&self) {
        let post = |path: String, body: Value| {
            self.send(Ask { method: "POST", path, type_: "application/json", metadata_only: false, body: Some(body) })
        };
        let (code, answer) = post(
            "/api/v1/namespaces".into(),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}),
        )
        .await;
        assert_eq!(code, 201, "{answer}");
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let (code, answer) = post(format!("/api/v1/namespaces/{}/serviceaccounts", self.namespace), account).await;
        assert!(code == 201 || code == 409, "{answer}");
        let (code, answer) = post(format!("/api/v1/namespaces/{}/configmaps", self.namespace), objects::root()).await;
        assert_eq!(code, 201, "{answer}");
    }

    /// Takes the finalizers from all that was made, which would hold the namespace.
    async fn let_go(&self) {
        let ask = |method, path, type_, body| Ask { method, path, type_, metadata_only: false, body };
        for kind in objects::KINDS {
            let path = kind.path(&self.namespace);
            let (code, list) = self.send(ask("GET", path.clone(), "application/json", None)).await;
            assert_eq!(code, 200, "{list}");
            let held = |item: &&Value| item["metadata"]["finalizers"].is_array();
            for item in list["items"].as_array().into_iter().flatten().filter(held) {
                let path = format!("{path}/{}", item["metadata"]["name"].as_str().unwrap());
                let none = json!({"metadata": {"finalizers": null}});
                let (code, answer) = self.send(ask("PATCH", path, "application/merge-patch+json", Some(none))).await;
                // A controller may have been faster.
                assert!(code == 200 || code == 404, "{answer}");
            }
        }
    }

    /// Deletes the namespace.
    pub async fn end(&self) {
        self.let_go().await;
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        let (code, answer) = self
            .send(Ask { method: "DELETE", path, type_: "application/json", metadata_only: false, body: None })
            .await;
        assert_eq!(code, 200, "{answer}");
    }

    /// Sends it; the whole answer.
    pub async fn send(&self, ask: Ask) -> (u16, Value) {
        let (code, frames) = self.open(ask).await;
        let bytes: Vec<Bytes> = frames.collect().await;
        let text = bytes.concat();
        (code, serde_json::from_slice(&text).unwrap_or_else(|_| json!(String::from_utf8_lossy(&text))))
    }

    /// Sends it; the answer as it comes.
    pub async fn open(&self, ask: Ask) -> (u16, Frames) {
        let accept = match ask.metadata_only {
            true if ask.path.contains('?') && !ask.path.contains("watch=") && !ask.path.contains("dryRun") => {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
            }
            true => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            false => "application/json",
        };
        let body = ask.body.map(|body| body.to_string()).unwrap_or_default();
        let request = http::Request::builder()
            .method(ask.method)
            .uri(&ask.path)
            .header("content-type", ask.type_)
            .header("accept", accept);
        match &self.way {
            Way::Real(client) => {
                let request = request.body(Body::from(body.into_bytes())).unwrap();
                let answer = client.send(request).await.unwrap();
                let code = answer.status().as_u16();
                (code, whole(answer.into_body().into_data_stream()))
            }
            Way::Simulated(server) => {
                let request = request.body(Bytes::from(body)).unwrap();
                match server.handle("conformance", request).await.unwrap() {
                    Answer::Whole(code, body) => (code, futures::stream::once(async { body }).boxed()),
                    Answer::Stream(frames) => (200, whole(frames)),
                }
            }
        }
    }
}

/// The frames up to the first that is broken.
fn whole<E: Send + 'static>(frames: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> Frames {
    frames.take_while(|frame| future::ready(frame.is_ok())).filter_map(|frame| future::ready(frame.ok())).boxed()
}

/// The events of a watch, up to the one that `last` knows.
pub async fn events(mut frames: Frames, last: impl Fn(&Value) -> bool) -> Vec<Value> {
    let (mut text, mut events) = (Vec::new(), Vec::new());
    let read = async {
        while let Some(frame) = frames.next().await {
            text.extend_from_slice(&frame);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).unwrap();
                let is_last = last(&event);
                events.push(event);
                if is_last {
                    return;
                }
            }
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), read).await.is_err() {
        events.push(json!({"type": "NOTHING MORE"}));
    }
    events
}
