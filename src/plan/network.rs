//! The wall around the instances of a Workspace: the one NetworkPolicy that covers them, whether it stands, and when it may go.
//! What it means to a packet is `meaning`'s, and which addresses are public `ranges`'.

pub mod leftover;
#[cfg(any(test, feature = "fuzzing"))]
pub mod meaning;
mod ranges;

use core::net::IpAddr;
use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::api::network::{Destination, Network, Pods, Port, Transport};
use crate::api::{WORKSPACE_ANNOTATION, WORKSPACE_UID_LABEL, Workspace};
use crate::plan::child::{self, Child, Failure};
use crate::plan::name;

/// The label that every namespace has with its name (KEP-2161).
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// What the installation says of everybody's network.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbourhood {
    /// Who may reach the instances.
    pub gateways: Vec<Destination>,
    /// Who resolves names for them.
    pub dns: Vec<Destination>,
    /// Networks that are private here, beside those that are everywhere.
    pub internal: Vec<IpNet>,
}

impl Neighbourhood {
    /// Where nothing else is said: the gateway in the operator's own `namespace`, and the cluster's DNS under its usual
    /// labels or at its usual address on each node.
    pub fn of(namespace: &str) -> Self {
        let pods = |namespace: &str, (key, value): (&str, &str), ports| Destination {
            pods: Some(Pods {
                namespace: Some(namespace.into()),
                labels: BTreeMap::from([(key.to_owned(), value.to_owned())]),
            }),
            ports,
            ..Destination::default()
        };
        Self {
            gateways: vec![pods(namespace, ("app.kubernetes.io/name", "berth-gateway"), Vec::new())],
            dns: vec![
                pods("kube-system", ("k8s-app", "kube-dns"), dns_ports()),
                Destination { cidr: Some("169.254.20.10/32".into()), ports: dns_ports(), ..Destination::default() },
            ],
            internal: Vec::new(),
        }
    }
}

impl Default for Neighbourhood {
    fn default() -> Self {
        Self::of("berth-system")
    }
}

/// The ports on which names are resolved.
pub fn dns_ports() -> Vec<Port> {
    [Transport::UDP, Transport::TCP].map(|protocol| Port { protocol, port: 53 }).to_vec()
}

/// How the wall of a Workspace stands.
pub type Fence = Child<NetworkPolicy>;

/// How the wall of `workspace` stands where this policy was seen under its name.
pub fn fence(
    workspace: &Workspace,
    neighbourhood: &Neighbourhood,
    seen: Option<&NetworkPolicy>,
    failed: Option<Failure>,
) -> Fence {
    match policy(workspace, neighbourhood) {
        None => Fence::Unneeded,
        Some(Ok(wanted)) => child::child(wanted, seen, failed),
        Some(Err(why)) => Fence::Impossible(why),
    }
}

/// Whether a cloud may have a metadata service at this address.
pub fn is_metadata(address: IpAddr) -> bool {
    ranges::metadata().iter().any(|network| network.contains(&address))
}

/// The NetworkPolicy of `workspace`; none where nothing is provisioned.
///
/// It names no owner: its Workspace goes before the last instance does, and Kubernetes would take it along. `leftover`
/// says when it goes.
///
/// # Errors
/// When what the Workspace says is no network: the definition refuses that, but not of what was stored before it did.
pub fn policy(workspace: &Workspace, neighbourhood: &Neighbourhood) -> Option<Result<NetworkPolicy, String>> {
    workspace.spec.template.as_ref()?;
    let uid = workspace.uid().unwrap_or_default();
    let spec = |egress: Vec<NetworkPolicyEgressRule>| NetworkPolicySpec {
        pod_selector: Some(selector([(WORKSPACE_UID_LABEL.to_owned(), uid.clone())].into())),
        policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        // The API server leaves out a list that is empty; the types of policy say that nothing is let through then.
        ingress: Some(ingress(neighbourhood)).filter(|rules| !rules.is_empty()),
        egress: Some(egress).filter(|rules| !rules.is_empty()),
    };
    let metadata = child::metadata(workspace);
    let network = workspace.spec.network.clone().unwrap_or_default();
    Some(egress(&network, neighbourhood).map(|egress| NetworkPolicy { metadata, spec: Some(spec(egress)) }))
}

/// The name and the uid of the Workspace that a policy is for. Labels alone make none ours: its name follows from both.
pub fn workspace_of(policy: &NetworkPolicy) -> Option<(&str, &str)> {
    let uid = policy.labels().get(WORKSPACE_UID_LABEL)?;
    let workspace = policy.annotations().get(WORKSPACE_ANNOTATION)?;
    (policy.metadata.name.as_ref() == Some(&name::of_workspace(workspace, uid))).then_some((workspace, uid))
}

/// In only from the gateway, on every port: the Workspace may be edited while an instance listens where it did.
fn ingress(neighbourhood: &Neighbourhood) -> Vec<NetworkPolicyIngressRule> {
    let rule = |gateway: &Destination| {
        let from = peer(gateway, &[]).ok()?;
        Some(NetworkPolicyIngressRule { from: Some(vec![from]), ports: ports(&gateway.ports) })
    };
    neighbourhood.gateways.iter().filter_map(rule).collect()
}

/// Out to where names are resolved, to public addresses, and where the Workspace says.
fn egress(network: &Network, neighbourhood: &Neighbourhood) -> Result<Vec<NetworkPolicyEgressRule>, String> {
    let mut rules = Vec::new();
    for dns in &neighbourhood.dns {
        rules.push(rule(dns, peer(dns, &[])?));
    }
    if network.public {
        let internal = ranges::internal(&neighbourhood.internal);
        // Where all of a family is private, nothing of it is public; an empty list would be everything.
        let families =
            ranges::everything().into_iter().filter(|all| !internal.iter().any(|network| network.contains(all)));
        let to: Vec<_> = families.map(|all| block(all, &internal)).collect();
        rules.extend((!to.is_empty()).then_some(NetworkPolicyEgressRule { to: Some(to), ports: None }));
    }
    let metadata = ranges::metadata();
    for (index, destination) in network.allow.iter().enumerate() {
        let to = peer(destination, &metadata).map_err(|why| format!("spec.network.allow[{index}] {why}"))?;
        rules.push(rule(destination, to));
    }
    Ok(rules)
}

fn rule(destination: &Destination, to: NetworkPolicyPeer) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { to: Some(vec![to]), ports: ports(&destination.ports) }
}

/// A destination as a peer. A network is written without those of `unless` that it is wider than.
fn peer(destination: &Destination, unless: &[IpNet]) -> Result<NetworkPolicyPeer, String> {
    match (&destination.cidr, &destination.pods) {
        (Some(cidr), None) => {
            let network: IpNet = cidr
                .as_str()
                .parse()
                .map_err(|_| format!("has cidr {cidr}, which is no network: write one such as 10.20.0.0/16"))?;
            Ok(block(network.trunc(), unless))
        }
        (None, Some(pods)) => Ok(NetworkPolicyPeer {
            namespace_selector: pods
                .namespace
                .as_ref()
                .map(|namespace| selector([(NAMESPACE_NAME_LABEL.to_owned(), namespace.to_string())].into())),
            pod_selector: Some(selector(pods.labels.clone())),
            ip_block: None,
        }),
        _ => Err("names neither a cidr nor pods, or both: write exactly one".to_owned()),
    }
}

fn block(network: IpNet, unless: &[IpNet]) -> NetworkPolicyPeer {
    let within = |inner: &&IpNet| network.contains(*inner) && **inner != network;
    let except: Vec<String> = unless.iter().filter(within).map(ToString::to_string).collect();
    let ip_block = IPBlock { cidr: network.to_string(), except: Some(except).filter(|except| !except.is_empty()) };
    NetworkPolicyPeer { ip_block: Some(ip_block), ..NetworkPolicyPeer::default() }
}

fn ports(ports: &[Port]) -> Option<Vec<NetworkPolicyPort>> {
    let one = |port: &Port| NetworkPolicyPort {
        protocol: Some(port.protocol.as_str().to_owned()),
        port: Some(IntOrString::Int(port.port)),
        end_port: None,
    };
    (!ports.is_empty()).then(|| ports.iter().map(one).collect())
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

#[cfg(test)]
mod tests;
