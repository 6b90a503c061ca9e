//! The port: connections, TLS, and a drain that lets requests finish. Owns how many connections there are and how long one
//! may take to say what it wants; what is answered is the routes'.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::Gateway;
use super::asker::Peer;
use super::tls::Certificate;
use crate::admin::listen;

/// How long a client may take to send the headers of a request.
const HEADERS: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes.
const LARGEST_HEAD: usize = 32 * 1024;
/// How many headers it may have.
const MOST_HEADERS: usize = 64;
/// How long requests may take to finish once the process is to stop.
const DRAIN: Duration = Duration::from_secs(20);

/// Serves `routes` until told to stop, and lets what is under way finish.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(gateway: Arc<Gateway>, routes: Router) -> anyhow::Result<()> {
    let address = gateway.settings.address;
    let listener = listen(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let certificate = gateway.settings.tls.clone().map(Certificate::load).transpose().context("gateway.tls")?;
    tracing::info!(%address, tls = certificate.is_some(), "answering");
    let room = Arc::new(Semaphore::new(gateway.settings.limits.connections));
    let graceful = GracefulShutdown::new();
    let mut stopping = gateway.stopping.clone();
    loop {
        // Who finds no room waits in the kernel's queue.
        let place = tokio::select! {
            place = Arc::clone(&room).acquire_owned() => place,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, most likely: some connection is about to end.
                tracing::warn!(%error, "a connection was not taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (routes, watcher) = (routes.clone(), graceful.watcher());
        let acceptor = certificate.as_ref().map(Certificate::acceptor);
        tokio::spawn(async move {
            match acceptor {
                None => connection(stream, peer, routes, watcher).await,
                Some(acceptor) => match tokio::time::timeout(HEADERS, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, peer, routes, watcher).await,
                    Ok(Err(error)) => tracing::debug!(%error, %peer, "no TLS came of a connection"),
                    Err(_) => tracing::debug!(%peer, "a connection was silent"),
                },
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not finish in time");
    }
    Ok(())
}

/// One connection.
async fn connection<S>(stream: S, peer: SocketAddr, routes: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        routes.clone().oneshot(request.map(axum::body::Body::new) as Request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended badly");
    }
}
