//! What NetworkPolicies mean to a packet, by the words of Kubernetes' documentation alone: it knows nothing of how ours are made.
//! Where an enforcer may read a policy in two ways, both are offered, so that what is refused is refused by all and what is
//! allowed is allowed by all.

use core::net::IpAddr;
use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

type Labels = BTreeMap<String, String>;

/// One end of a connection.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its address.
    pub address: IpAddr,
    /// The pod that it is, if it is one.
    pub pod: Option<Pod>,
}

/// What policies know of a pod.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// The labels of that.
    pub namespace_labels: Labels,
    /// Its own labels.
    pub labels: Labels,
}

/// Which way a connection goes, seen from the pod that policies are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To it.
    In,
    /// From it.
    Out,
}

/// How blocks of addresses are read where the other end is a pod: the documentation leaves it to the enforcer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A block has the pods with its addresses, too.
    Widest,
    /// A block has no pod.
    Narrowest,
}

/// Whether `policies` let `pod` open, or take, a connection with `other` on this port, of the end that is dialled.
pub fn allows(
    policies: &[NetworkPolicy],
    pod: &Pod,
    direction: Direction,
    other: &Party,
    (protocol, port): (&str, u16),
    reading: Reading,
) -> bool {
    let name = match direction {
        Direction::In => "Ingress",
        Direction::Out => "Egress",
    };
    let concerns = |policy: &&NetworkPolicy| {
        let Some(spec) = &policy.spec else { return false };
        policy.metadata.namespace.as_ref() == Some(&pod.namespace)
            && spec.pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.labels))
            && spec.policy_types.iter().flatten().any(|it| it == name)
    };
    let mut concerned = policies.iter().filter(concerns).peekable();
    if concerned.peek().is_none() {
        return true;
    }
    concerned.any(|policy| {
        let Some(spec) = &policy.spec else { return false };
        let (ingress, egress) = (spec.ingress.iter().flatten(), spec.egress.iter().flatten());
        let rules: Vec<(&[NetworkPolicyPeer], &[NetworkPolicyPort])> = match direction {
            Direction::In => ingress.map(|rule| (list(&rule.from), list(&rule.ports))).collect(),
            Direction::Out => egress.map(|rule| (list(&rule.to), list(&rule.ports))).collect(),
        };
        rules.iter().any(|(peers, ports)| {
            (peers.is_empty() || peers.iter().any(|peer| is_peer(peer, &pod.namespace, other, reading)))
                && (ports.is_empty() || ports.iter().any(|it| is_port(it, protocol, port)))
        })
    })
}

/// A list that is left out is an empty one.
fn list<T>(items: &Option<Vec<T>>) -> &[T] {
    items.as_deref().unwrap_or_default()
}

fn is_peer(peer: &NetworkPolicyPeer, namespace: &str, other: &Party, reading: Reading) -> bool {
    if let Some(block) = &peer.ip_block {
        // On the wire a mapped address is one of IPv4.
        let address = other.address.to_canonical();
        let has = |text: &String| text.parse::<IpNet>().is_ok_and(|network| network.contains(&address));
        let readable = reading == Reading::Widest || other.pod.is_none();
        return readable && has(&block.cidr) && !block.except.iter().flatten().any(has);
    }
    let Some(pod) = &other.pod else { return false };
    let of_namespace = match &peer.namespace_selector {
        Some(selector) => selects(selector, &pod.namespace_labels),
        None => pod.namespace == namespace,
    };
    of_namespace && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.labels))
}

fn is_port(rule: &NetworkPolicyPort, protocol: &str, port: u16) -> bool {
    let port = i32::from(port);
    rule.protocol.as_deref().unwrap_or("TCP") == protocol
        && match (&rule.port, rule.end_port) {
            (None, _) => true,
            (Some(IntOrString::Int(from)), None) => *from == port,
            (Some(IntOrString::Int(from)), Some(to)) => (*from..=to).contains(&port),
            // A name is one of the pod's own; ours have none.
            (Some(IntOrString::String(_)), _) => false,
        }
}

fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let expressions = selector.match_expressions.iter().flatten();
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().all(|it| {
            let (value, values) = (labels.get(&it.key), it.values.as_deref().unwrap_or_default());
            match it.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn labels(pairs: Value) -> Labels {
        serde_json::from_value(pairs).unwrap()
    }

    fn pod(namespace: &str, own: Value) -> Pod {
        let namespace_labels = labels(json!({ "kubernetes.io/metadata.name": namespace, "team": namespace }));
        Pod { namespace: namespace.to_owned(), namespace_labels, labels: labels(own) }
    }

    fn outside(address: &str) -> Party {
        Party { address: address.parse().unwrap(), pod: None }
    }

    fn inside(address: &str, pod: Pod) -> Party {
        Party { pod: Some(pod), ..outside(address) }
    }

    /// The policy of the documentation's page on NetworkPolicies, and what it says of it.
    #[test]
    fn the_documented_example_means_what_the_documentation_says() {
        let policy: NetworkPolicy = serde_json::from_value(json!({
            "metadata": { "name": "test-network-policy", "namespace": "default" },
            "spec": {
                "podSelector": { "matchLabels": { "role": "db" } },
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{
                    "from": [
                        { "ipBlock": { "cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"] } },
                        { "namespaceSelector": { "matchLabels": { "team": "myproject" } } },
                        { "podSelector": { "matchLabels": { "role": "frontend" } } },
                    ],
                    "ports": [{ "protocol": "TCP", "port": 6379 }],
                }],
                "egress": [{ "to": [{ "ipBlock": { "cidr": "10.0.0.0/24" } }], "ports": [{ "protocol": "TCP", "port": 5978 }] }],
            },
        }))
        .unwrap();
        let policies = [policy];
        let db = pod("default", json!({ "role": "db" }));
        let frontend = |namespace| inside("10.9.9.9", pod(namespace, json!({ "role": "frontend" })));
        use Direction::{In, Out};
        for (direction, other, port, expected) in [
            (In, outside("172.17.0.1"), ("TCP", 6379), true),
            (In, outside("172.17.2.0"), ("TCP", 6379), true),
            (In, outside("172.17.1.7"), ("TCP", 6379), false),
            (In, outside("172.17.0.1"), ("UDP", 6379), false),
            (In, outside("172.17.0.1"), ("TCP", 6380), false),
            (In, frontend("default"), ("TCP", 6379), true),
            (In, frontend("other"), ("TCP", 6379), false),
            (In, inside("10.9.9.9", pod("myproject", json!({}))), ("TCP", 6379), true),
            (Out, outside("10.0.0.8"), ("TCP", 5978), true),
            (Out, outside("10.0.1.8"), ("TCP", 5978), false),
            (Out, outside("10.0.0.8"), ("TCP", 80), false),
        ] {
            let said = allows(&policies, &db, direction, &other, port, Reading::Narrowest);
            assert_eq!(said, expected, "{direction:?} {other:?} {port:?}");
        }
        // Whom no policy selects, everybody reaches.
        let web = pod("default", json!({ "role": "web" }));
        assert!(allows(&policies, &web, In, &outside("203.0.113.1"), ("TCP", 1), Reading::Narrowest));
        // What is allowed is the sum of all policies.
        let deny_all = json!({ "metadata": { "namespace": "default" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } });
        let both = [policies[0].clone(), serde_json::from_value(deny_all).unwrap()];
        assert!(allows(&both, &db, In, &frontend("default"), ("TCP", 6379), Reading::Narrowest));
        assert!(!allows(&both, &web, In, &frontend("default"), ("TCP", 6379), Reading::Widest));
    }

    #[test]
    fn expressions_and_ranges_of_ports_are_read_as_documented() {
        let policy: NetworkPolicy = serde_json::from_value(json!({
            "metadata": { "namespace": "default" },
            "spec": {
                "podSelector": { "matchExpressions": [{ "key": "role", "operator": "In", "values": ["db", "cache"] }] },
                "policyTypes": ["Egress"],
                "egress": [{
                    "to": [{
                        "namespaceSelector": { "matchExpressions": [{ "key": "team", "operator": "NotIn", "values": ["evil"] }] },
                        "podSelector": { "matchExpressions": [{ "key": "retired", "operator": "DoesNotExist" }] },
                    }],
                    "ports": [{ "protocol": "TCP", "port": 32000, "endPort": 32768 }],
                }],
            },
        }))
        .unwrap();
        let db = pod("default", json!({ "role": "cache" }));
        let ask = |other: Pod, port| {
            let other = inside("10.0.0.1", other);
            allows(std::slice::from_ref(&policy), &db, Direction::Out, &other, ("TCP", port), Reading::Narrowest)
        };
        assert!(ask(pod("good", json!({})), 32500));
        assert!(!ask(pod("good", json!({})), 32769));
        assert!(!ask(pod("evil", json!({})), 32500));
        assert!(!ask(pod("good", json!({ "retired": "yes" })), 32500));
        // A direction that is not named is free.
        assert!(allows(
            std::slice::from_ref(&policy),
            &db,
            Direction::In,
            &outside("203.0.113.1"),
            ("TCP", 1),
            Reading::Narrowest
        ));
    }
}
