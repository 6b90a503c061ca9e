//! What the configuration file says of endpoints. Owns what may be written there; what is never dialled is
//! `cluster::dial`'s.

use serde::Deserialize;

use super::networks;
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
    Ok(Destinations {
        allowed: file.allow.map(|texts| networks("endpoints.allow", texts)).transpose()?,
        denied: networks("endpoints.deny", file.deny)?,
        api_server: Vec::new(),
    })
}
