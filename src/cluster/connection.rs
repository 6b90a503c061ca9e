//! The connection to the API server: TLS, credentials, and what the library's own leaves out. Owns how requests are sent;
//! how long one waits is `patience`'s.

use std::time::Duration;

use anyhow::{Context, bail};
use http::{Method, Uri};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::{Client, Config};
use tower::util::MapRequestLayer;
use tower::{BoxError, ServiceBuilder};

use super::patience;

/// How long a connection may be idle and be used again. The API server closes one after 90 s, which is the library's own limit, too: a
/// request that is sent in that moment is lost.
const IDLE: Duration = Duration::from_secs(45);

/// A client for this configuration. `asked` is told of each request before it is sent.
///
/// The library's own client repeats requests for minutes, below the check of the lease: here nothing is repeated, and
/// whoever asked decides anew. And it lets TCP hold back the second packet of a request until the first was acknowledged
/// (Nagle's algorithm), for which a receiver may take 40 ms.
///
/// # Errors
/// When the credentials cannot be used, or a proxy is configured.
pub fn client(config: &Config, asked: impl Fn(&Method, &Uri) + Clone + Send + 'static) -> anyhow::Result<Client> {
    if let Some(proxy) = &config.proxy_url {
        let host = proxy.host().unwrap_or_default();
        bail!(
            "the way to the API server leads over the proxy {host}, which is not supported: unset HTTPS_PROXY, or \
               proxy-url in the kubeconfig"
        );
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = config.rustls_https_connector_with_connector(tcp).context("TLS cannot be set up")?;
    let sent = legacy::Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(tls);
    let counted = MapRequestLayer::new(move |request: http::Request<kube::client::Body>| {
        asked(request.method(), request.uri());
        request
    });
    let service = ServiceBuilder::new()
        .layer(counted)
        .layer(patience::layer())
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().context("the credentials cannot be used")?)
        .layer(config.extra_headers_layer().context("the configured headers cannot be sent")?)
        .map_err(BoxError::from)
        .service(sent);
    Ok(Client::new(service, config.default_namespace.clone()))
}
