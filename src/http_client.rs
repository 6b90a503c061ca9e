//! The client of HTTP for what is not the API server: a collector of traces, a gateway. It is built of the HTTP and TLS that the
//! connection to the API server brings, so that there is one of each. Owns which of both a URL is reached by.

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// A client of one place. Clones are of the same connections.
#[derive(Clone, Debug)]
pub enum Over {
    /// Plain HTTP needs no certificates, which an image may do without.
    Http(legacy::Client<HttpConnector, Full<Bytes>>),
    /// HTTPS, by the certificates that this machine trusts.
    Https(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Over {
    /// A client for `place`.
    ///
    /// # Errors
    /// When that is to be reached by TLS and there are no certificates to trust.
    pub fn new(place: &Uri) -> std::io::Result<Self> {
        let builder = legacy::Client::builder(TokioExecutor::new());
        if place.scheme() != Some(&Scheme::HTTPS) {
            return Ok(Self::Http(builder.build(HttpConnector::new())));
        }
        let connector = HttpsConnectorBuilder::new().try_with_platform_verifier().map_err(std::io::Error::other)?;
        Ok(Self::Https(builder.build(connector.https_only().enable_http1().build())))
    }

    /// The answer to a request.
    ///
    /// # Errors
    /// When there is none.
    pub async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, legacy::Error> {
        match self {
            Self::Http(client) => client.request(request).await,
            Self::Https(client) => client.request(request).await,
        }
    }
}
