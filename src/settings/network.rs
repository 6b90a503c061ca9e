//! What the configuration file says of everybody's network. Owns what may be written there; what becomes of it is
//! `plan::network`'s.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use ipnet::IpNet;
use serde::Deserialize;

use super::{is_dns_label, networks};
use crate::api::network::{Destination, Pods, Port, Transport};
use crate::plan::network::{Neighbourhood, dns_ports};

/// The part `network` of the configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    gateways: Option<Vec<Place>>,
    dns: Option<Vec<Place>>,
    internal: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    cidr: Option<String>,
    pods: Option<PodsThere>,
    port: Option<u16>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PodsThere {
    namespace: String,
    labels: BTreeMap<String, String>,
}

/// What the installation says, of an operator in this namespace. A list that is written takes the place of the default one.
///
/// # Errors
/// When a place is none, or a network.
pub(super) fn settle(file: File, namespace: &str) -> anyhow::Result<Neighbourhood> {
    let default = Neighbourhood::of(namespace);
    let places = |key: &str, places: Option<Vec<Place>>, default, ports: fn() -> Vec<Port>| -> anyhow::Result<_> {
        let Some(places) = places else { return Ok(default) };
        let settled = places
            .into_iter()
            .enumerate()
            .map(|(index, place)| place.settle(ports).with_context(|| format!("network.{key}[{index}] is wrong")));
        settled.collect()
    };
    Ok(Neighbourhood {
        gateways: places("gateways", file.gateways, default.gateways, Vec::new)?,
        dns: places("dns", file.dns, default.dns, dns_ports)?,
        internal: networks("network.internal", file.internal)?,
    })
}

impl Place {
    fn settle(self, default_ports: fn() -> Vec<Port>) -> anyhow::Result<Destination> {
        ensure!(
            self.cidr.is_some() != self.pods.is_some(),
            "write exactly one of cidr (as in 169.254.20.10/32) and pods (with namespace and labels)"
        );
        let ports = match self.port {
            Some(port) => {
                [Transport::UDP, Transport::TCP].map(|protocol| Port { protocol, port: port.into() }).to_vec()
            }
            None => default_ports(),
        };
        ensure!(ports.iter().all(|port| port.port > 0), "port 0 is none: write one from 1 to 65535");
        if let Some(cidr) = &self.cidr {
            ensure!(cidr.parse::<IpNet>().is_ok(), "`{cidr}` is no network: write one such as 169.254.20.10/32");
        }
        let pods = self.pods.map(|pods| {
            let name = &pods.namespace;
            ensure!(is_dns_label(name), "`{name}` is no namespace's name");
            ensure!(
                !pods.labels.is_empty(),
                "pods without labels are all pods: name the labels of those that are meant"
            );
            Ok(Pods { namespace: Some(name.as_str().into()), labels: pods.labels.clone() })
        });
        Ok(Destination { cidr: self.cidr.as_deref().map(Into::into), pods: pods.transpose()?, ports })
    }
}
