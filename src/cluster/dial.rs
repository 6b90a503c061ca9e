//! One bounded attempt to reach an endpoint. Owns which addresses are never dialled; not when it is tried, nor how the
//! machine proves who it is, which is `prove`'s.

mod credentials;
mod prove;

pub use credentials::missing_credentials;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::{TcpStream, lookup_host};

use crate::plan::endpoint::Target;
use crate::plan::network::is_metadata;

/// Where endpoints may be, by the installation's word. What is never dialled anywhere is not here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    /// In these networks alone; without any said, everywhere.
    pub allowed: Option<Vec<IpNet>>,
    /// Not in these, also where the others would allow it.
    pub denied: Vec<IpNet>,
    /// The host names and addresses of the API server: it is nobody's workspace.
    pub api_server: Vec<String>,
}

impl Destinations {
    /// Why a workspace may not be at this address, one of which the API server has, if so.
    fn refusal(&self, address: IpAddr, api_server: &[IpAddr]) -> Option<&'static str> {
        let address = address.to_canonical();
        // What a translator would carry it to is no better than the address itself.
        let leads_to = if let IpAddr::V6(v6) = address { embedded(v6).map(IpAddr::V4) } else { None };
        let within = |networks: &[IpNet], address: &IpAddr| networks.iter().any(|network| network.contains(address));
        let either = |is: &dyn Fn(&IpAddr) -> bool| [Some(address), leads_to].iter().flatten().any(is);
        if !is_allowed(address) {
            Some("which is never dialled")
        } else if either(&|address| api_server.iter().any(|server| server.to_canonical() == *address)) {
            Some("which is the API server's")
        } else if either(&|address| within(&self.denied, address)) {
            Some("where this installation allows no endpoints (endpoints.deny)")
        } else if self.allowed.as_ref().is_some_and(|allowed| !within(allowed, &address)) {
            Some("which is in none of the networks that this installation allows (endpoints.allow)")
        } else {
            None
        }
    }

    /// The addresses of the API server as they are now.
    ///
    /// # Errors
    /// When one of its names cannot be resolved: then nobody could say what must not be dialled.
    async fn api_server(&self) -> Result<Vec<IpAddr>, String> {
        let mut addresses = Vec::new();
        for host in &self.api_server {
            let found = lookup_host((host.as_str(), 0)).await;
            let found = found.map_err(|error| format!("cannot resolve the API server's own name {host}: {error}"))?;
            addresses.extend(found.map(|address| address.ip()));
        }
        Ok(addresses)
    }
}

/// How long resolving, connecting and the proof may take together.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connecting to one of several addresses may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects to the machine, has it prove who it is, and hangs up.
///
/// # Errors
/// A sentence that says what failed.
pub async fn dial(target: &Target, destinations: &Destinations) -> Result<(), String> {
    match tokio::time::timeout(DIAL_TIMEOUT, attempt(target, destinations)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("{}:{} did not answer within {} s", target.host, target.port, DIAL_TIMEOUT.as_secs())),
    }
}

/// Resolves once, checks every address, and dials only what was checked.
async fn attempt(target: &Target, destinations: &Destinations) -> Result<(), String> {
    let (host, port) = (target.host.as_str(), target.port);
    let api_server = destinations.api_server().await?;
    let addresses: Vec<SocketAddr> =
        lookup_host((host, port)).await.map_err(|error| format!("cannot resolve {host}: {error}"))?.collect();
    for address in addresses.iter().map(SocketAddr::ip) {
        if let Some(why) = destinations.refusal(address, &api_server) {
            return Err(format!("{host} resolves to {address}, {why}: name the machine's own address"));
        }
    }
    let mut last = format!("{host} has no address");
    for address in addresses {
        // One that swallows what is sent leaves time for the next.
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
            // Another machine at the same name would be no better.
            Ok(stream) => {
                return prove::prove(stream, host, &target.proof).await.map_err(|why| format!("{address} {why}"));
            }
            Err(error) => last = format!("cannot connect to {address}: {error}"),
        }
    }
    Err(last)
}

/// Whether a workspace may be at this address: not on this very host, not at a metadata service.
fn is_allowed(address: IpAddr) -> bool {
    let address = address.to_canonical();
    if is_metadata(address) {
        return false;
    }
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            let leads_to = embedded(v6).is_none_or(|v4| is_allowed(IpAddr::V4(v4)));
            leads_to && !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local())
        }
    }
}

/// The address of IPv4 to which a translator or tunnel would carry this one: NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0x64, 0xff9b, 0 | 1, 0, 0, 0, high, low] => Some(parts(high, low)),
        [0x2002, high, low, ..] => Some(parts(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_says_where_endpoints_may_be() {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let somewhere = Destinations {
            allowed: Some(networks(&["10.1.0.0/16", "2001:db8::/32"])),
            denied: networks(&["10.1.9.0/24"]),
            api_server: Vec::new(),
        };
        let server = ["10.1.0.1".parse().unwrap()];
        for (address, words) in [
            ("10.1.2.3", None),
            ("2001:db8::7", None),
            ("::ffff:10.1.2.3", None),
            ("10.2.2.3", Some("endpoints.allow")),
            ("192.0.2.1", Some("endpoints.allow")),
            ("10.1.9.3", Some("endpoints.deny")),
            ("64:ff9b::10.1.9.3", Some("endpoints.deny")),
            ("64:ff9b:1::10.1.0.1", Some("API server")),
            ("10.1.0.1", Some("API server")),
            ("::ffff:10.1.0.1", Some("API server")),
            ("127.0.0.1", Some("never dialled")),
        ] {
            let why = somewhere.refusal(address.parse().unwrap(), &server);
            assert_eq!(why.is_some(), words.is_some(), "{address}: {why:?}");
            assert!(why.unwrap_or_default().contains(words.unwrap_or_default()), "{address}: {why:?}");
        }
        assert_eq!(Destinations::default().refusal("192.0.2.1".parse().unwrap(), &[]), None);
    }

    #[tokio::test]
    async fn the_api_server_is_known_by_its_name_too() {
        let destinations = Destinations { api_server: vec!["localhost".to_owned()], ..Destinations::default() };
        let addresses = destinations.api_server().await.unwrap();
        assert!(addresses.iter().all(IpAddr::is_loopback) && !addresses.is_empty(), "{addresses:?}");
    }

    #[test]
    fn this_host_and_metadata_services_are_never_dialled() {
        for address in [
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "0.0.0.0",
            "::",
            "fe80::1",
            "::ffff:127.0.0.1",
            "224.0.0.1",
            "100.100.100.200",
            "fd00:ec2::254",
            "168.63.129.16",
            "192.0.0.192",
            "fd20:ce::254",
            "fd00:ec2::23",
            "fd00:42::42",
            "64:ff9b::169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:a9fe:a9fe::1",
        ] {
            assert_eq!(address.parse().map(is_allowed), Ok(false), "{address}");
        }
        for address in ["192.0.2.10", "10.1.2.3", "2001:db8::1", "64:ff9b::192.0.2.10", "2002:c000:20a::1"] {
            assert_eq!(address.parse().map(is_allowed), Ok(true), "{address}");
        }
    }
}
