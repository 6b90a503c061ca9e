//! What the policies that are made mean, held against what is meant.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::meaning::{Direction, Party, Pod, Reading, allows};
use super::*;

const UID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn workspace(network: &Value) -> Workspace {
    let mut spec = json!({
        "type": "web", "access": {"protocol": "HTTP", "port": 80},
        "template": {"spec": {"containers": [{"name": "main", "image": "box"}]}},
    });
    if !network.is_null() {
        spec["network"] = network.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "box", "namespace": "school", "uid": UID}, "spec": spec,
    }))
    .unwrap()
}

fn made(network: &Value) -> NetworkPolicy {
    policy(&workspace(network), &Neighbourhood::default()).unwrap().unwrap()
}

fn pod(namespace: &str, labels: Value) -> Pod {
    Pod {
        namespace: namespace.to_owned(),
        namespace_labels: [(NAMESPACE_NAME_LABEL.to_owned(), namespace.to_owned())].into(),
        labels: serde_json::from_value(labels).unwrap(),
    }
}

fn instance() -> Pod {
    pod("school", json!({ WORKSPACE_UID_LABEL: UID }))
}

fn at(address: &str) -> Party {
    Party { address: address.parse().unwrap(), pod: None }
}

/// Whether an instance gets out to there, by every reading that speaks for it; the two must agree.
fn goes_out(network: &Value, other: &Party, to: (&str, u16)) -> bool {
    let policies = [made(network)];
    let by = |reading| allows(&policies, &instance(), Direction::Out, other, to, reading);
    let (widest, narrowest) = (by(Reading::Widest), by(Reading::Narrowest));
    assert!(widest || !narrowest);
    if other.pod.is_some() { widest } else { narrowest }
}

#[test]
fn only_the_gateway_comes_in() {
    let policies = [made(&json!({ "public": true, "allow": [{ "cidr": "0.0.0.0/0" }] }))];
    let gateway = json!({ "app.kubernetes.io/name": "berth-gateway" });
    for (who, expected) in [
        (Some(pod("berth-system", gateway.clone())), true),
        (Some(pod("school", gateway)), false),
        (Some(pod("berth-system", json!({ "app.kubernetes.io/name": "berth-operator" }))), false),
        (Some(instance()), false),
        (Some(pod("school", json!({}))), false),
        (None, false),
    ] {
        for port in [22, 80, 5900, 8080] {
            let other = Party { pod: who.clone(), ..at("10.1.2.3") };
            for reading in [Reading::Widest, Reading::Narrowest] {
                let comes = allows(&policies, &instance(), Direction::In, &other, ("TCP", port), reading);
                assert_eq!(comes, expected, "{who:?} on {port}, {reading:?}");
            }
        }
    }
    // Another Workspace's instances are another policy's.
    let other = pod("school", json!({ WORKSPACE_UID_LABEL: "another" }));
    assert!(allows(&policies, &other, Direction::In, &at("10.1.2.3"), ("TCP", 80), Reading::Narrowest));
}

#[test]
fn an_instance_gets_out_to_names_and_to_public_addresses_and_no_further() {
    let dns = Party { pod: Some(pod("kube-system", json!({ "k8s-app": "kube-dns" }))), ..at("10.244.0.2") };
    let unlike = Party { pod: Some(pod("kube-system", json!({ "k8s-app": "kube-proxy" }))), ..at("10.244.0.3") };
    let neighbour = Party { pod: Some(instance()), ..at("10.244.0.4") };
    for (other, to, by_default, shut) in [
        (&dns, ("UDP", 53), true, true),
        (&dns, ("TCP", 53), true, true),
        (&dns, ("TCP", 9153), false, false),
        (&unlike, ("UDP", 53), false, false),
        (&neighbour, ("TCP", 80), false, false),
        (&at("169.254.20.10"), ("UDP", 53), true, true),
        (&at("169.254.20.10"), ("TCP", 80), false, false),
        (&at("169.254.169.254"), ("TCP", 80), false, false),
        (&at("169.254.169.254"), ("UDP", 53), false, false),
        (&at("100.100.100.200"), ("TCP", 80), false, false),
        (&at("fd00:ec2::254"), ("TCP", 80), false, false),
        (&at("64:ff9b::a9fe:a9fe"), ("TCP", 80), false, false),
        (&at("10.96.0.1"), ("TCP", 443), false, false),
        (&at("192.168.1.1"), ("TCP", 22), false, false),
        (&at("9.9.9.9"), ("TCP", 443), true, false),
        (&at("2620:fe::fe"), ("UDP", 443), true, false),
    ] {
        assert_eq!(goes_out(&json!(null), other, to), by_default, "{other:?} {to:?}");
        assert_eq!(goes_out(&json!({ "public": false }), other, to), shut, "{other:?} {to:?}, shut");
    }
}

#[test]
fn a_workspace_opens_what_it_names_and_nothing_beside() {
    let network = json!({ "public": false, "allow": [
        { "cidr": "10.20.0.0/16", "ports": [{ "port": 5432 }, { "protocol": "UDP", "port": 514 }] },
        { "cidr": "10.30.1.7/16" },
        { "pods": { "labels": { "app": "db" } } },
        { "pods": { "namespace": "shared", "labels": { "app": "registry" } }, "ports": [{ "port": 5000 }] },
    ]});
    let within =
        |namespace: &str, app: &str| Party { pod: Some(pod(namespace, json!({ "app": app }))), ..at("10.244.9.9") };
    for (other, to, expected) in [
        (at("10.20.3.4"), ("TCP", 5432), true),
        (at("10.20.3.4"), ("UDP", 514), true),
        (at("10.20.3.4"), ("TCP", 514), false),
        (at("10.21.3.4"), ("TCP", 5432), false),
        (at("10.30.200.1"), ("TCP", 1), true),
        (within("school", "db"), ("TCP", 5432), true),
        (within("shared", "db"), ("TCP", 5432), false),
        (within("shared", "registry"), ("TCP", 5000), true),
        (within("shared", "registry"), ("TCP", 5001), false),
        (at("9.9.9.9"), ("TCP", 443), false),
    ] {
        assert_eq!(goes_out(&network, &other, to), expected, "{other:?} {to:?}");
    }
}

#[test]
fn a_metadata_service_is_opened_by_its_own_name_alone() {
    let metadata = at("169.254.169.254");
    for (cidr, expected) in [
        ("0.0.0.0/0", false),
        ("169.0.0.0/8", false),
        ("169.254.0.0/16", true),
        ("169.254.169.254/32", true),
        ("169.254.170.2/32", false),
    ] {
        let network = json!({ "allow": [{ "cidr": cidr }] });
        assert_eq!(goes_out(&network, &metadata, ("TCP", 80)), expected, "{cidr}");
    }
}

#[test]
fn an_installation_says_who_comes_in_and_what_is_private_here() {
    let proxy = Destination {
        pods: Some(Pods { namespace: Some("edge".into()), labels: [("app".to_owned(), "proxy".to_owned())].into() }),
        ..Destination::default()
    };
    let here = Neighbourhood {
        gateways: vec![proxy],
        internal: vec!["9.9.9.0/24".parse().unwrap()],
        ..Neighbourhood::default()
    };
    let policies = [policy(&workspace(&json!(null)), &here).unwrap().unwrap()];
    let ask =
        |direction, other: &Party| allows(&policies, &instance(), direction, other, ("TCP", 80), Reading::Narrowest);
    assert!(ask(Direction::In, &Party { pod: Some(pod("edge", json!({ "app": "proxy" }))), ..at("10.1.1.1") }));
    let gateway = pod("berth-system", json!({ "app.kubernetes.io/name": "berth-gateway" }));
    assert!(!ask(Direction::In, &Party { pod: Some(gateway), ..at("10.1.1.1") }));
    assert!(!ask(Direction::Out, &at("9.9.9.9")));
    assert!(ask(Direction::Out, &at("9.9.8.9")));
}

#[test]
fn where_everything_is_private_nothing_is_public() {
    for (internal, v4, v6) in [
        (vec!["0.0.0.0/0"], false, true),
        (vec!["0.0.0.0/1", "128.0.0.0/1"], false, true),
        (vec!["::/0"], true, false),
        (vec!["0.0.0.0/0", "::/0"], false, false),
    ] {
        let here = Neighbourhood {
            internal: internal.iter().map(|text| text.parse().unwrap()).collect(),
            ..Neighbourhood::default()
        };
        let policies = [policy(&workspace(&json!(null)), &here).unwrap().unwrap()];
        let goes = |to: &str| allows(&policies, &instance(), Direction::Out, &at(to), ("TCP", 443), Reading::Widest);
        assert_eq!((goes("9.9.9.9"), goes("2620:fe::fe")), (v4, v6), "{internal:?}");
        assert!(!goes("10.0.0.1") && !goes("169.254.169.254") && !goes("fd00::1"), "{internal:?}");
    }
}

#[test]
fn a_wall_of_which_nothing_is_let_through_has_no_empty_list() {
    let closed = Neighbourhood { gateways: Vec::new(), dns: Vec::new(), internal: Vec::new() };
    let wall = policy(&workspace(&json!({ "public": false })), &closed).unwrap().unwrap();
    let spec = wall.spec.clone().unwrap();
    assert_eq!((spec.ingress, spec.egress), (None, None), "the API server leaves out what is empty");
    for direction in [Direction::In, Direction::Out] {
        assert!(!allows(
            std::slice::from_ref(&wall),
            &instance(),
            direction,
            &at("9.9.9.9"),
            ("TCP", 80),
            Reading::Widest
        ));
    }
}

#[test]
fn a_wall_stands_where_it_is_as_it_was_made_and_others_may_mark_it() {
    let (workspace, here) = (workspace(&json!(null)), Neighbourhood::default());
    let stood = |change: fn(&mut NetworkPolicy)| {
        let mut seen = made(&json!(null));
        (seen.metadata.uid, seen.metadata.resource_version) = (Some("u".to_owned()), Some("7".to_owned()));
        change(&mut seen);
        fence(&workspace, &here, Some(&seen), None)
    };
    assert_eq!(stood(|_| {}), Fence::Stands);
    assert_eq!(stood(|seen| drop(seen.labels_mut().insert("team".to_owned(), "a".to_owned()))), Fence::Stands);
    let changes: [fn(&mut NetworkPolicy); 5] = [
        |seen| drop(seen.labels_mut().remove(WORKSPACE_UID_LABEL)),
        |seen| seen.annotations_mut().clear(),
        |seen| seen.spec.as_mut().unwrap().policy_types = Some(vec!["Ingress".to_owned()]),
        |seen| seen.spec.as_mut().unwrap().ingress = Some(vec![NetworkPolicyIngressRule::default()]),
        |seen| {
            let owner = json!({ "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace", "name": "box", "uid": UID });
            seen.metadata.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
        },
    ];
    for change in changes {
        let Fence::Wanting { object: policy, .. } = stood(change) else { panic!("it does not stand") };
        assert_eq!(policy.metadata.resource_version.as_deref(), Some("7"));
        let mut healed = Some(*policy);
        healed.as_mut().unwrap().metadata.managed_fields = None;
        assert_eq!(fence(&workspace, &here, healed.as_ref(), None), Fence::Stands);
    }
    let going = |seen: &mut NetworkPolicy| {
        seen.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    };
    assert_eq!(stood(going), Fence::Going);
    let Fence::Wanting { object: policy, .. } = fence(&workspace, &here, None, None) else { panic!("there is none") };
    assert_eq!(*policy, made(&json!(null)));
}

#[test]
fn what_is_no_network_is_told_and_an_endpoint_has_no_wall() {
    let wrong = workspace(&json!({ "allow": [{ "cidr": "10.0.0.0/33" }] }));
    let Fence::Impossible(why) = fence(&wrong, &Neighbourhood::default(), None, None) else { panic!("it is one") };
    assert!(why.starts_with("spec.network.allow[0] has cidr 10.0.0.0/33, which is no network"), "{why}");
    let both = workspace(&json!({ "allow": [{ "cidr": "10.0.0.0/8", "pods": { "labels": {} } }] }));
    assert!(matches!(fence(&both, &Neighbourhood::default(), None, None), Fence::Impossible(_)));
    let mut machine = workspace(&json!(null));
    machine.spec.template = None;
    assert_eq!(fence(&machine, &Neighbourhood::default(), None, None), Fence::Unneeded);
}

/// By Rust's own words: addresses that no instance has any business with.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.to_ipv4_mapped().is_some_and(|v4| is_private(IpAddr::V4(v4)))
                || v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
        }
    }
}

/// Addresses of all kinds: anywhere, and near the bounds of what is private.
fn addresses() -> impl Strategy<Value = IpAddr> {
    let bounds = prop::sample::select(vec![
        0x0a00_0000_u32,
        0x0aff_ffff,
        0x6440_0000,
        0x7f00_0000,
        0xa9fe_0000,
        0xac10_0000,
        0xac1f_ffff,
        0xc0a8_0000,
        0xc0a8_ffff,
        0xe000_0000,
        0xffff_ffff,
    ]);
    let near = (bounds, -2_i64..3).prop_map(|(bound, off)| (bound as i64 + off).rem_euclid(1 << 32) as u32);
    let v4 = prop_oneof![any::<u32>(), near].prop_map(Ipv4Addr::from);
    let v6 = prop_oneof![
        any::<u128>(),
        any::<u64>().prop_map(|low| 0xfd00_0ec2_u128 << 96 | u128::from(low)),
        any::<u64>().prop_map(|low| 0xfe80_u128 << 112 | u128::from(low)),
        any::<u32>().prop_map(|low| 0xffff_0000_0000_u128 | u128::from(low)),
    ];
    prop_oneof![v4.clone().prop_map(IpAddr::V4), v6.prop_map(|address| IpAddr::V6(Ipv6Addr::from(address)))]
}

proptest! {
    #[test]
    fn no_private_address_is_reached_unasked(address in addresses(), port in 1_u16.., udp in any::<bool>()) {
        let to = (if udp { "UDP" } else { "TCP" }, port);
        let other = Party { address, pod: None };
        prop_assume!(!(address.to_canonical() == at("169.254.20.10").address && port == 53));
        if is_private(address) {
            prop_assert!(!goes_out(&json!(null), &other, to));
            let other = Party { pod: Some(pod("school", json!({ "app": "other" }))), ..other };
            prop_assert!(!goes_out(&json!(null), &other, to), "as a pod of that address");
        }
    }

    #[test]
    fn what_is_opened_is_what_is_written(
        address in addresses(), bits in any::<u32>(), length in 0_u8..=32, port in 1_u16.., open in 1_u16.., narrow in any::<bool>(),
    ) {
        let cidr = format!("{}/{length}", Ipv4Addr::from(bits));
        let ports = if narrow { json!([{ "port": open }]) } else { json!([]) };
        let network = json!({ "public": false, "allow": [{ "cidr": cidr, "ports": ports }] });
        let written: IpNet = cidr.parse().unwrap();
        let is_metadata = is_metadata(address.to_canonical()) && !ranges::metadata().iter().any(|its| its.contains(&written.trunc()));
        let meant = written.contains(&address.to_canonical()) && !is_metadata && (!narrow || port == open);
        let dns = address.to_canonical() == at("169.254.20.10").address && port == 53;
        prop_assert_eq!(goes_out(&network, &Party { address, pod: None }, ("TCP", port)), meant || dns);
    }

    #[test]
    fn nobody_but_the_gateway_comes_in_whatever_a_workspace_says(
        address in addresses(), public in any::<bool>(), bits in any::<u32>(), length in 0_u8..=32, port in 1_u16..,
        namespace in prop::sample::select(vec!["school", "berth-system", "kube-system", "other"]), label in any::<bool>(),
    ) {
        let network = json!({ "public": public, "allow": [
            { "cidr": format!("{}/{length}", Ipv4Addr::from(bits)) },
            { "pods": { "namespace": namespace, "labels": { "app": "x" } } },
        ]});
        let labels = if label { json!({ "app": "x" }) } else { json!({ "app.kubernetes.io/name": "berth-gateway" }) };
        let is_gateway = namespace == "berth-system" && !label;
        let other = Party { address, pod: Some(pod(namespace, labels)) };
        for reading in [Reading::Widest, Reading::Narrowest] {
            let comes = allows(&[made(&network)], &instance(), Direction::In, &other, ("TCP", port), reading);
            prop_assert_eq!(comes, is_gateway);
        }
    }
}
