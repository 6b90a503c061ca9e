//! The client's side of the way: a tower service without sockets. Owns the passage between kube's bodies and ours.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use tower::{BoxError, Service};

use super::{Answer, ApiServer, Disconnected};

/// The way of one client to the API server.
#[derive(Clone)]
pub struct Front {
    server: ApiServer,
    who: String,
}

impl Front {
    /// The way of the client called `who`.
    pub fn new(server: ApiServer, who: &str) -> Self {
        Self { server, who: who.to_owned() }
    }
}

impl Service<http::Request<Body>> for Front {
    type Response = http::Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { server, who } = self.clone();
        // A task of its own: a request goes on after its caller has given it up.
        let answer = tokio::spawn(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(BoxError::from)?.to_bytes();
            server.handle(&who, http::Request::from_parts(parts, body)).await.map_err(BoxError::from)
        });
        async move {
            let (code, body) = match answer.await?? {
                Answer::Whole(code, body) => (code, Full::new(body).map_err(never).boxed_unsync()),
                Answer::Stream(frames) => {
                    let frames = frames.map(|frame| frame.map(Frame::data).map_err(broken));
                    (200, StreamBody::new(frames).boxed_unsync())
                }
            };
            let response = http::Response::builder().status(code).header("content-type", "application/json");
            Ok(response.body(body)?)
        }
        .boxed()
    }
}

fn never(never: Infallible) -> BoxError {
    match never {}
}

fn broken(broken: Disconnected) -> BoxError {
    broken.into()
}
