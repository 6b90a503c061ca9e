//! How a machine proves who it is: by its host key, or by its certificate, each pinned. Owns the handshakes up to the proof;
//! nobody logs in, and nothing is sent after it.

mod bounded;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{AlgorithmKind, Preferred, client, kex};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::plan::endpoint::Proof;
use bounded::Bounded;

/// Has the machine at the other end of `stream`, reached by the name `host`, prove who it is.
///
/// # Errors
/// What it showed instead, in words that follow its address.
pub async fn prove(stream: TcpStream, host: &str, proof: &Proof) -> Result<(), String> {
    match proof {
        Proof::Unasked => Ok(()),
        Proof::HostKeys(keys) => host_key(stream, keys).await,
        Proof::Certificates(accepted) => certificate(stream, host, accepted).await,
        Proof::CertificatesOfRdp(accepted) => certificate(ask_rdp_for_tls(stream).await?, host, accepted).await,
    }
}

/// How long an exchange of keys may last. The library goes on with it also when nobody waits any more, for as long as the
/// server says something.
const EXCHANGE: Duration = Duration::from_secs(5);
/// The ways of exchanging keys that are asked for. Not those in which the server chooses the group: it would choose how long
/// this process computes.
const KEX: [kex::Name; 7] = [
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

/// Exchanges keys with an SSH server (RFC 4253, 7 and 8).
async fn host_key(stream: TcpStream, lines: &[String]) -> Result<(), String> {
    let pinned: Result<Vec<PublicKey>, String> = lines
        .iter()
        .map(|line| {
            PublicKey::from_openssh(line).map_err(|error| format!("cannot be asked for the key {line}: {error}"))
        })
        .collect();
    let pinned = pinned?;
    // A server with several keys shows the first of these that it has.
    let algorithms = pinned.iter().map(PublicKey::algorithm).collect::<Vec<Algorithm>>();
    let preferred = Preferred { key: Cow::Owned(algorithms), kex: Cow::Borrowed(&KEX), ..Preferred::default() };
    let config = client::Config { preferred, ..client::Config::default() };
    match client::connect_stream(Arc::new(config), Bounded::new(stream, EXCHANGE), Pinned(pinned)).await {
        Ok(_) => Ok(()),
        Err(Refusal::Another(shown)) => {
            Err(format!("shows the host key {shown}, which spec.endpoint.hostKeys does not name"))
        }
        Err(Refusal::Ssh(russh::Error::NoCommonAlgo { kind: AlgorithmKind::Key, .. })) => {
            Err("has no host key of a kind that spec.endpoint.hostKeys names".to_owned())
        }
        Err(Refusal::Ssh(russh::Error::NoCommonAlgo { kind, .. })) => {
            Err(format!("speaks SSH only with algorithms that are not taken here ({kind:?})"))
        }
        Err(Refusal::Ssh(error)) => Err(format!("does not speak SSH: {error}")),
    }
}

/// The client that knows whom it wants to speak to.
struct Pinned(Vec<PublicKey>);

/// Why the exchange came to nothing.
#[derive(Debug)]
enum Refusal {
    /// The server showed this key.
    Another(String),
    Ssh(russh::Error),
}

impl From<russh::Error> for Refusal {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl client::Handler for Pinned {
    type Error = Refusal;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Refusal> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Err(Refusal::Another("of a certificate".to_owned()));
        };
        // The comment of a line is no part of the key.
        match self.0.iter().any(|pinned| pinned.key_data() == key.key_data()) {
            true => Ok(true),
            false => Err(Refusal::Another(format!("{} ({})", key.fingerprint(HashAlg::Sha256), key.algorithm()))),
        }
    }
}

/// A client's request for TLS, and nothing else, before RDP (MS-RDPBCGR, 2.2.1.1): TPKT, X.224, RDP_NEG_REQ with
/// PROTOCOL_SSL and PROTOCOL_HYBRID.
const RDP_REQUEST: [u8; 19] = [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 3, 0, 0, 0];
/// The answer of a server that negotiates (2.2.1.2): TPKT, X.224, RDP_NEG_RSP or RDP_NEG_FAILURE.
const RDP_ANSWER: usize = 19;

/// Asks an RDP server for TLS, which it speaks from the next byte on.
async fn ask_rdp_for_tls(mut stream: TcpStream) -> Result<TcpStream, String> {
    let failed = |error: std::io::Error| format!("does not speak RDP: {error}");
    stream.write_all(&RDP_REQUEST).await.map_err(failed)?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(failed)?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    // One that does not negotiate answers with the first eleven bytes alone, and speaks without TLS.
    if head[0] != 3 || !(11..=RDP_ANSWER).contains(&length) {
        return Err("does not speak RDP".to_owned());
    }
    let mut rest = vec![0; length - head.len()];
    stream.read_exact(&mut rest).await.map_err(failed)?;
    match (rest.get(7), rest.get(11)) {
        (Some(2), Some(selected)) if *selected != 0 => Ok(stream),
        _ => Err("speaks RDP without TLS, and so shows no certificate".to_owned()),
    }
}

/// Speaks TLS up to the proof that the server has the key of a pinned certificate.
async fn certificate(stream: TcpStream, host: &str, accepted: &[String]) -> Result<(), String> {
    let name = ServerName::try_from(host.trim_end_matches('.').to_owned())
        .map_err(|_| format!("cannot be asked for a certificate by the name {host}"))?;
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(PinnedCertificate { accepted: accepted.to_vec(), provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot be asked for a certificate: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let spoken = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    spoken.map(drop).map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::General(shown)) => shown.clone(),
        _ => format!("does not prove its certificate in TLS: {error}"),
    })
}

/// Takes certificates by what they are, whoever signed them and whatever their dates say: a machine's own certificate is
/// good for as long as it is pinned.
#[derive(Debug)]
struct PinnedCertificate {
    accepted: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCertificate {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pairs: Vec<String> = Sha256::digest(shown).iter().map(|byte| format!("{byte:02X}")).collect();
        let fingerprint = pairs.join(":");
        match self.accepted.contains(&fingerprint) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General(format!(
                "shows the certificate {fingerprint}, which spec.endpoint.certificates does not name"
            ))),
        }
    }

    // The server signs with the certificate's key: without that it could show anybody's certificate.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
