//! The machine of an endpoint: where it is, and what it has to prove. Owns what is asked of it; `cluster::dial` asks.

use crate::api::workspace::{Access, Endpoint, Protocol};

/// A machine to be dialled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How it shows who it is.
    pub proof: Proof,
    /// The Secret without which nobody would get in, if one is named.
    pub credentials: Option<String>,
}

/// How a machine shows who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Nobody said what to ask: it takes a connection.
    #[default]
    Unasked,
    /// By the private half of one of these public keys, lines of OpenSSH (RFC 4253, 8).
    HostKeys(Vec<String>),
    /// By the private key of a certificate with one of these SHA-256, in TLS from the first byte.
    Certificates(Vec<String>),
    /// The same, in the TLS that a client of RDP asks for (MS-RDPBCGR, 5.4.5.1).
    CertificatesOfRdp(Vec<String>),
}

impl Target {
    /// The machine of `endpoint`, reached as `access` says. What is named for another protocol is not asked for.
    pub fn of(endpoint: &Endpoint, access: &Access) -> Self {
        let keys = || endpoint.host_keys.iter().map(ToString::to_string).collect();
        let certificates = || endpoint.certificates.iter().map(ToString::to_string).collect();
        let proof = match access.protocol {
            Protocol::SSH if !endpoint.host_keys.is_empty() => Proof::HostKeys(keys()),
            Protocol::HTTP if !endpoint.certificates.is_empty() => Proof::Certificates(certificates()),
            Protocol::RDP if !endpoint.certificates.is_empty() => Proof::CertificatesOfRdp(certificates()),
            _ => Proof::Unasked,
        };
        Self {
            host: endpoint.host.to_string(),
            port: u16::try_from(access.port).unwrap_or_default(),
            proof,
            credentials: endpoint.credentials_ref.as_ref().map(|reference| reference.name.to_string()),
        }
    }
}
