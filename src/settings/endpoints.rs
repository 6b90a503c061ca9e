//! What the configuration file says of endpoints. Owns what may be written there; what is never dialled is
//! `cluster::dial`'s.

use ipnet::IpNet;
use serde::Deserialize;

use crate::cluster::dial::Destinations;

/// The part `endpoints` of the configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    allow: Option<Vec<String>>,
    deny: Vec<String>,
}

/// Where endpoints may be.
///
/// # Errors
/// When an entry is neither a network nor an address.
pub(super) fn settle(file: File) -> anyhow::Result<Destinations> {
    let networks = |key: &str, texts: Vec<String>| -> anyhow::Result<Vec<IpNet>> {
        let network = |text: String| {
            let one = || Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?));
            text.parse().ok().or_else(one).ok_or_else(|| {
                anyhow::anyhow!(
                    "`{text}` in endpoints.{key} is no network: write one such as 10.1.0.0/16, or an address"
                )
            })
        };
        texts.into_iter().map(network).collect()
    };
    Ok(Destinations {
        allowed: file.allow.map(|texts| networks("allow", texts)).transpose()?,
        denied: networks("deny", file.deny)?,
        api_server: Vec::new(),
    })
}
