//! What the configuration file says of the gateway, and the gateway's settings. Owns what may be written there; the
//! authorities of SSH stand there too, and are the operator's to hand out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;

use super::{Common, networks};

/// The part `gateway` of the configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    ssh_user_ca: Vec<String>,
    address: Option<SocketAddr>,
    audience: Option<String>,
    tls: Option<TlsFile>,
    trusted_hops: Vec<String>,
    origins: Vec<String>,
    limits: LimitsFile,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsFile {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct LimitsFile {
    body_bytes: Option<usize>,
    request_seconds: Option<u64>,
    connections: Option<usize>,
    requests_per_second: Option<u32>,
    burst: Option<u32>,
}

/// What `berth gateway` is told on the command line and by the environment, beside what both roles are told.
#[derive(Args, Clone, Debug, Default)]
pub struct GatewayFlags {
    /// What every role is told.
    #[command(flatten)]
    pub common: Common,

    /// Where the REST API is served [default: [::]:8000, every address of IPv4 and IPv6].
    #[arg(long, env = "BERTH_GATEWAY_ADDRESS", value_name = "ADDRESS")]
    pub address: Option<SocketAddr>,

    /// The uid of the pod that this runs in: the Lease that it leaves when it dies goes with it.
    #[arg(long, env = "BERTH_POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,

    /// Where history and audit are kept: sqlite:/path/to/berth.db, or postgres://user:password@host/database.
    #[arg(long, env = "BERTH_STORE", value_name = "URL", hide_env_values = true)]
    pub store: Option<String>,
}

/// The gateway's settings in force.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewaySettings {
    /// What every role is told.
    pub role: super::Role,
    /// Where the REST API is served.
    pub address: SocketAddr,
    /// The audience that tokens of callers must have.
    pub audience: String,
    /// The certificate to serve with; without one the port is plain.
    pub tls: Option<Tls>,
    /// Proxies in front, whose word on a caller's address is taken.
    pub trusted_hops: Vec<IpNet>,
    /// Origins of other sites whose pages may call, as browsers write them.
    pub origins: Vec<String>,
    /// What a caller may take at most.
    pub limits: Limits,
    /// The uid of the pod that this runs in, if it does.
    pub pod_uid: Option<String>,
    /// Where history and audit are kept.
    pub store: Option<String>,
}

/// Files of PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, and those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What a caller may take at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest body of a request.
    pub body_bytes: usize,
    /// How long a request may take, streams of events excepted.
    pub request: Duration,
    /// How many connections there may be at once.
    pub connections: usize,
    /// How many requests a second a caller may send for long.
    pub requests_per_second: u32,
    /// How many at once.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            request: Duration::from_secs(30),
            connections: 4096,
            requests_per_second: 50,
            burst: 200,
        }
    }
}

impl File {
    /// The authorities' public keys, each as a line of OpenSSH.
    ///
    /// # Errors
    /// When one is no public key.
    pub(super) fn ssh_user_ca(&self) -> anyhow::Result<Vec<String>> {
        for line in &self.ssh_user_ca {
            let mut words = line.split_ascii_whitespace();
            let kind = words.next().is_some_and(|kind| kind.starts_with("ssh-") || kind.starts_with("ecdsa-"));
            let key = words.next().is_some_and(|key| key.len() > 16);
            ensure!(
                kind && key && !line.contains(['\n', '\r']) && !line.contains("PRIVATE"),
                "an entry of gateway.sshUserCa is no public key: write the line of a file such as ca.pub"
            );
        }
        Ok(self.ssh_user_ca.clone())
    }

    /// Checks what the gateway alone needs, also where the operator reads it: one file is both roles'.
    ///
    /// # Errors
    /// When a value is none; it is named.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.origins()?;
        self.limits.settle()?;
        networks("gateway.trustedHops", self.trusted_hops.clone())?;
        ensure!(self.audience.as_deref() != Some(""), "gateway.audience is empty: leave it out for `berth`");
        Ok(())
    }

    fn origins(&self) -> anyhow::Result<Vec<String>> {
        for origin in &self.origins {
            let url: http::Uri =
                origin.parse().with_context(|| format!("`{origin}` in gateway.origins is no origin"))?;
            let bare =
                url.scheme().is_some() && url.authority().is_some() && !origin.ends_with('/') && url.path() == "/";
            ensure!(bare, "`{origin}` in gateway.origins is no origin: write one such as https://portal.example.org");
        }
        Ok(self.origins.clone())
    }
}

impl LimitsFile {
    fn settle(&self) -> anyhow::Result<Limits> {
        let default = Limits::default();
        let limits = Limits {
            body_bytes: self.body_bytes.unwrap_or(default.body_bytes),
            request: self.request_seconds.map_or(default.request, Duration::from_secs),
            connections: self.connections.unwrap_or(default.connections),
            requests_per_second: self.requests_per_second.unwrap_or(default.requests_per_second),
            burst: self.burst.unwrap_or(default.burst),
        };
        let positive = [
            ("bodyBytes", limits.body_bytes > 0),
            ("requestSeconds", !limits.request.is_zero()),
            ("connections", limits.connections > 0),
            ("requestsPerSecond", limits.requests_per_second > 0),
            ("burst", limits.burst > 0),
        ];
        for (key, is_positive) in positive {
            ensure!(is_positive, "gateway.limits.{key} is 0: nobody could call");
        }
        Ok(limits)
    }
}

impl GatewayFlags {
    /// The settings in force: these flags over their file over the defaults.
    ///
    /// # Errors
    /// As the operator's.
    pub fn settle(self) -> anyhow::Result<GatewaySettings> {
        let file = self.common.file()?;
        let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 8000));
        let gateway = &file.gateway;
        gateway.check()?;
        Ok(GatewaySettings {
            address: self.address.or(gateway.address).unwrap_or(any),
            audience: gateway.audience.clone().unwrap_or_else(|| "berth".to_owned()),
            tls: gateway.tls.clone().map(|tls| Tls { certificate: tls.certificate, key: tls.key }),
            trusted_hops: networks("gateway.trustedHops", gateway.trusted_hops.clone())?,
            origins: gateway.origins()?,
            limits: gateway.limits.settle()?,
            pod_uid: self.pod_uid.filter(|uid| !uid.is_empty()),
            store: self.store.filter(|url| !url.is_empty()).or_else(|| file.store.url.clone()),
            role: self.common.settle(&file)?,
        })
    }
}
