//! One bounded attempt to reach an endpoint. Owns which addresses are never dialled; not when it is tried.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};

/// How long resolving and connecting may take together.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the endpoint and hangs up.
///
/// # Errors
/// A sentence that says what failed.
pub async fn dial(host: &str, port: u16) -> Result<(), String> {
    match tokio::time::timeout(DIAL_TIMEOUT, attempt(host, port)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("{host}:{port} did not answer within {} s", DIAL_TIMEOUT.as_secs())),
    }
}

/// Resolves once, checks every address, and dials only what was checked.
async fn attempt(host: &str, port: u16) -> Result<(), String> {
    let addresses: Vec<SocketAddr> =
        lookup_host((host, port)).await.map_err(|error| format!("cannot resolve {host}: {error}"))?.collect();
    if let Some(refused) = addresses.iter().find(|address| !is_allowed(address.ip())) {
        return Err(format!(
            "{host} resolves to {}, which is never dialled: name the machine's own address",
            refused.ip()
        ));
    }
    let mut last = format!("{host} has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(()),
            Err(error) => last = format!("cannot connect to {address}: {error}"),
        }
    }
    Err(last)
}

/// Whether a workspace may be at this address: not on the operator itself, not at a metadata service.
fn is_allowed(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            const METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4 == METADATA)
        }
        IpAddr::V6(v6) => {
            let metadata = v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local() || metadata)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_itself_and_metadata_services_are_never_dialled() {
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
        ] {
            assert_eq!(address.parse().map(is_allowed), Ok(false), "{address}");
        }
        for address in ["192.0.2.10", "10.1.2.3", "2001:db8::1"] {
            assert_eq!(address.parse().map(is_allowed), Ok(true), "{address}");
        }
    }
}
