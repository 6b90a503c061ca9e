//! Which addresses are public. Owns the list of those that are not: by the registries of special addresses (RFC 6890 and what
//! updates it), and by where clouds have their metadata services.

use core::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks of IPv4 that are private, special, or of somebody's metadata service.
const INTERNAL_V4: [&str; 17] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
];

/// The same of IPv6. Tunnels are among them whole: what they lead to cannot be told. Mapped addresses (RFC 4291) are those of
/// IPv4, and no API server takes them in a policy.
const INTERNAL_V6: [&str; 12] = [
    "::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// The addresses by which a translator reaches IPv4 (NAT64, RFC 6052).
const TRANSLATED: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// Where clouds have metadata and credential services: link-local addresses, and single ones of Alibaba, Azure, Oracle (as it
/// was), Amazon and its pod identities, Google, Scaleway.
const METADATA: [&str; 8] = [
    "169.254.0.0/16",
    "fe80::/10",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "fd00:ec2::/32",
    "fd20:ce::254/128",
    "fd00:42::42/128",
];

/// All of an address family.
pub(super) fn everything() -> [IpNet; 2] {
    [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
}

/// What no instance reaches unasked: everything that is not public, here and by `more` of the installation.
pub(super) fn internal(more: &[IpNet]) -> Vec<IpNet> {
    let known = read(&INTERNAL_V4).chain(read(&INTERNAL_V6)).chain(more.iter().copied());
    with_translations(known)
}

/// The addresses of metadata services.
pub(super) fn metadata() -> Vec<IpNet> {
    with_translations(read(&METADATA))
}

/// `networks`, and for those of IPv4 what a translator makes of them; without what is within another of them.
fn with_translations(networks: impl Iterator<Item = IpNet>) -> Vec<IpNet> {
    let both = |network: IpNet| [Some(network), translated(network)].into_iter().flatten();
    let mut all: Vec<IpNet> = networks.map(|network| network.trunc()).flat_map(both).collect();
    all.sort_unstable();
    all.dedup();
    IpNet::aggregate(&all)
}

/// How a translator writes a network of IPv4.
fn translated(network: IpNet) -> Option<IpNet> {
    let IpNet::V4(network) = network else { return None };
    let address = u128::from(TRANSLATED) | u128::from(u32::from(network.addr()));
    IpNet::new(IpAddr::V6(address.into()), network.prefix_len() + 96).ok()
}

fn read<'a>(texts: &'a [&str]) -> impl Iterator<Item = IpNet> + 'a {
    // Each is held by a test.
    texts.iter().filter_map(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_of_the_lists_is_one_and_begins_where_it_says() {
        for text in INTERNAL_V4.iter().chain(&INTERNAL_V6).chain(&METADATA) {
            let network: IpNet = text.parse().unwrap();
            assert_eq!(network.trunc(), network, "{text}");
        }
    }

    #[test]
    fn no_metadata_service_is_public() {
        let internal = internal(&[]);
        for network in metadata() {
            assert!(internal.iter().any(|wide| wide.contains(&network)), "{network}");
        }
    }

    #[test]
    fn what_a_translator_makes_of_a_private_address_is_private() {
        let internal = internal(&[]);
        let is_internal =
            |text: &str| internal.iter().any(|network| network.contains(&text.parse::<IpAddr>().unwrap()));
        for (address, expected) in [
            ("64:ff9b::10.1.2.3", true),
            ("64:ff9b::169.254.169.254", true),
            ("64:ff9b::192.0.2.1", true),
            ("64:ff9b::8.8.8.8", false),
            ("2001:db8::1", true),
            ("2001:200::1", false),
            ("2606:4700::1", false),
            ("2001:0:1::1", true),
            ("2002:a00:1::1", true),
            ("fd12::1", true),
            ("9.255.255.255", false),
            ("11.0.0.0", false),
            ("172.15.255.255", false),
            ("172.31.255.255", true),
            ("100.127.0.1", true),
            ("100.128.0.1", false),
        ] {
            assert_eq!(is_internal(address), expected, "{address}");
        }
    }
}
