//! Who asks, and from where: every request under /api has one, or goes no further. Owns the address of a caller, how it is
//! known, and how often one may ask.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use tokio::time::Instant;

use super::Gateway;
use super::caller::Caller;
use super::problem::Problem;
use crate::settings::gateway::Limits;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Who it is.
    pub caller: Arc<Caller>,
    /// Where they ask from.
    pub address: Address,
    /// The program, as it calls itself.
    pub user_agent: Option<String>,
}

/// An address, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// How it is known.
    pub source: AddressSource,
}

/// How an address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSource {
    /// The connection came from there.
    Connection,
    /// A proxy that is trusted says so.
    Forwarded,
}

impl AddressSource {
    /// As it is recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Forwarded => "forwarded",
        }
    }
}

/// The peer of the connection that a request came by.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Where a request comes from: the nearest address that is none of the trusted proxies'. What stands further left, anybody
/// may have written.
fn address(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Address {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(&ip));
    let peer = peer.ip().to_canonical();
    let mut found = Address { ip: peer, source: AddressSource::Connection };
    if !is_trusted(peer) {
        return found;
    }
    let values = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    for hop in hops.into_iter().rev() {
        let Some(ip) = read(hop) else { return found };
        found = Address { ip, source: AddressSource::Forwarded };
        if !is_trusted(ip) {
            return found;
        }
    }
    found
}

/// An address as proxies write it, some with a port.
fn read(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_matches(['[', ']']);
    let ip = bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()));
    ip.map(|ip: IpAddr| ip.to_canonical())
}

/// How often each caller has asked: a bucket of tokens each, which fills by time.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<String, (f64, Instant)>>);

/// How many buckets are kept; full ones say nothing.
const BUCKETS: usize = 10_000;

impl Rates {
    /// Takes one from the bucket of `whose`.
    ///
    /// # Errors
    /// When it is empty.
    fn take(&self, whose: &str, limits: &Limits) -> Result<(), Problem> {
        let (rate, burst) = (f64::from(limits.requests_per_second), f64::from(limits.burst));
        let now = Instant::now();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS && !buckets.contains_key(whose) {
            buckets.retain(|_, (left, at)| *left + now.duration_since(*at).as_secs_f64() * rate < burst);
        }
        let (left, at) = buckets.get(whose).copied().unwrap_or((burst, now));
        let left = (left + now.duration_since(at).as_secs_f64() * rate).min(burst);
        if left < 1.0 {
            return Err(Problem::too_often(1));
        }
        buckets.insert(whose.to_owned(), (left - 1.0, now));
        Ok(())
    }
}

/// Lets a request through that has a caller, and gives it an [`Asker`].
pub async fn authenticated(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    let Some(Peer(peer)) = request.extensions().get().copied() else {
        return Problem::unavailable("the connection has no address").into_response();
    };
    let address = address(peer, request.headers(), &gateway.settings.trusted_hops);
    let reads = request.method().is_safe();
    // Whoever guesses tokens is held to the same rate, by address, before anybody is asked about them.
    let may_ask = || gateway.rates.take(&format!("\0{}", address.ip), &gateway.settings.limits);
    let caller = match gateway.callers.of(request.headers(), reads, may_ask).await {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    if let Err(problem) = gateway.rates.take(&caller.username, &gateway.settings.limits) {
        return problem.into_response();
    }
    gateway.visitors.seen(&caller, address, gateway.clock.now());
    let agent = request.headers().get(axum::http::header::USER_AGENT).and_then(|value| value.to_str().ok());
    let user_agent = agent.map(|agent| agent.chars().filter(|letter| !letter.is_control()).take(256).collect());
    request.extensions_mut().insert(Asker { caller, address, user_agent });
    next.run(request).await
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // A route that forgot to ask who calls lets nobody in.
        parts.extensions.get().cloned().ok_or_else(Problem::unauthenticated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str], trusted: &[&str]) -> (String, &'static str) {
        let headers = forwarded.iter().map(|value| (FORWARDED_FOR, value.parse().unwrap())).collect();
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let Address { ip, source } = address(SocketAddr::new(peer.parse().unwrap(), 1), &headers, &trusted);
        (ip.to_string(), source.as_str())
    }

    #[test]
    fn a_strangers_word_on_an_address_is_not_taken() {
        let hops = &["10.0.0.0/8"];
        let connection = |ip: &str| (ip.to_owned(), "connection");
        let forwarded = |ip: &str| (ip.to_owned(), "forwarded");
        assert_eq!(seen("192.0.2.1", &["198.51.100.1"], hops), connection("192.0.2.1"));
        assert_eq!(seen("192.0.2.1", &["198.51.100.1"], &[]), connection("192.0.2.1"));
        assert_eq!(seen("10.0.0.1", &[], hops), connection("10.0.0.1"));
        assert_eq!(seen("10.0.0.1", &["198.51.100.1"], hops), forwarded("198.51.100.1"));
        assert_eq!(seen("::ffff:10.0.0.1", &["198.51.100.1"], hops), forwarded("198.51.100.1"));
        // The client wrote the first; the edge has added what it saw.
        assert_eq!(seen("10.0.0.1", &["203.0.113.9, 198.51.100.1"], hops), forwarded("198.51.100.1"));
        assert_eq!(seen("10.0.0.1", &["203.0.113.9", "198.51.100.1, 10.0.0.2"], hops), forwarded("198.51.100.1"));
        assert_eq!(seen("10.0.0.1", &["203.0.113.9, nonsense, 10.0.0.2"], hops), forwarded("10.0.0.2"));
        assert_eq!(seen("10.0.0.1", &["[2001:db8::1]:443"], hops), forwarded("2001:db8::1"));
        assert_eq!(seen("10.0.0.1", &["198.51.100.1:5000"], hops), forwarded("198.51.100.1"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_too_often_waits_and_nobody_else_does() {
        let rates = Rates::default();
        let limits = Limits { requests_per_second: 2, burst: 3, ..Limits::default() };
        for _ in 0..3 {
            rates.take("ana", &limits).unwrap();
        }
        assert!(rates.take("ana", &limits).is_err());
        rates.take("ben", &limits).unwrap();
        tokio::time::advance(std::time::Duration::from_millis(500)).await;
        rates.take("ana", &limits).unwrap();
        assert!(rates.take("ana", &limits).is_err());
    }
}
