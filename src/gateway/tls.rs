//! TLS by a mounted certificate. A certificate that is renewed is taken up with the next connection; one that cannot be read
//! leaves the last good one in use. Owns when the files are looked at.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::settings::gateway::Tls;

/// How long the files are taken to be as they were.
const FRESH: Duration = Duration::from_secs(5);

/// The certificate in use.
#[derive(Debug)]
pub struct Certificate {
    files: Tls,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    changed: Option<(SystemTime, SystemTime)>,
    looked: Instant,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Current").field("changed", &self.changed).finish_non_exhaustive()
    }
}

impl Certificate {
    /// The certificate in these files.
    ///
    /// # Errors
    /// When they hold no certificate with its key.
    pub fn load(files: Tls) -> anyhow::Result<Self> {
        let current = Current { changed: changed(&files), acceptor: read(&files)?, looked: Instant::now() };
        Ok(Self { files, current: Mutex::new(current) })
    }

    /// What takes the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= FRESH {
            current.looked = Instant::now();
            let changed = changed(&self.files);
            if changed != current.changed {
                match read(&self.files) {
                    Ok(acceptor) => {
                        tracing::info!("the certificate was renewed");
                        (current.acceptor, current.changed) = (acceptor, changed);
                    }
                    // Both files change one after the other: the next look sees them together.
                    Err(error) => {
                        tracing::warn!(error = format!("{error:#}"), "the new certificate cannot be used yet")
                    }
                }
            }
        }
        current.acceptor.clone()
    }
}

fn changed(files: &Tls) -> Option<(SystemTime, SystemTime)> {
    let at = |path: &Path| std::fs::metadata(path).and_then(|it| it.modified()).ok();
    Some((at(&files.certificate)?, at(&files.key)?))
}

fn read(files: &Tls) -> anyhow::Result<TlsAcceptor> {
    let shown = |path: &Path| path.display().to_string();
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read the certificate {}", shown(&files.certificate)))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("cannot read the key {}", shown(&files.key)))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the key is not that of the certificate")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
