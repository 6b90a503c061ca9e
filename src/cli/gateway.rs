//! Berth's REST API, where a gateway is named: for what the resources do not tell. Owns how it is reached and with which token; what
//! is asked for is each command's.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, LINK};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;

use super::exit::{Exit, Failure, chain};
use crate::http_client::Over;

/// How long one request may take.
const CALL: Duration = Duration::from_secs(30);
/// The longest answer that is read; a page of 500 sessions is about half a megabyte.
const LONGEST: usize = 64 * 1024 * 1024;
/// Where the token for the gateway is.
pub const TOKEN: &str = "BERTH_TOKEN";

/// A gateway, and who asks it.
pub struct Gateway {
    over: Over,
    place: String,
    token: String,
}

/// A page of an answer.
struct Page {
    items: Vec<Value>,
    next: Option<String>,
}

impl Gateway {
    /// The gateway at `url`, asked with the token of [`TOKEN`]. That of the kubeconfig is the API server's, and nobody else's to see.
    ///
    /// # Errors
    /// When it is none, or there is no token.
    pub fn new(url: &str) -> Result<Self, Failure> {
        let place = place(url)?;
        let token = std::env::var(TOKEN).ok().filter(|token| !token.trim().is_empty());
        let token = token.ok_or_else(|| {
            Failure::new(Exit::Usage, "there is no token to ask the gateway with").next(format!(
                "set {TOKEN}, such as {TOKEN}=$(kubectl create token ACCOUNT --audience berth) for an account, or your \
                 identity provider's token"
            ))
        })?;
        let over = Over::new(&place).map_err(|error| {
            Failure::new(Exit::Failed, format!("no certificates to trust: {error}"))
                .next("name the gateway's authority in SSL_CERT_FILE")
        })?;
        Ok(Self { over, place: place.to_string().trim_end_matches('/').to_owned(), token: token.trim().to_owned() })
    }

    /// All that is listed at `path`, page by page, up to `most`.
    ///
    /// # Errors
    /// When a page is refused, or does not come.
    pub async fn all(&self, path: &str, most: usize) -> Result<Vec<Value>, Failure> {
        let (mut items, mut next) = (Vec::new(), Some(path.to_owned()));
        while let Some(path) = next.filter(|_| items.len() < most) {
            let page = self.page(&path).await?;
            // A page that leads to itself would never end.
            next = page.next.filter(|next| *next != path && !page.items.is_empty());
            items.extend(page.items);
        }
        items.truncate(most);
        Ok(items)
    }

    async fn page(&self, path: &str) -> Result<Page, Failure> {
        let unreachable = |why: String| {
            Failure::new(Exit::Failed, format!("cannot reach the gateway {}: {why}", self.place))
                .next("is --gateway the address of Berth's gateway? Without it the resources are asked")
        };
        let request = Request::get(format!("{}{path}", self.place))
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Full::new(Bytes::new()))
            .map_err(|_| {
                Failure::new(Exit::Usage, "the token or the gateway's address has characters that none has")
            })?;
        let answer = tokio::time::timeout(CALL, async {
            let (head, body) =
                self.over.request(request).await.map_err(|error| unreachable(chain(&error)))?.into_parts();
            let body = Limited::new(body, LONGEST).collect().await.map_err(|error| unreachable(error.to_string()))?;
            Ok::<_, Failure>((head, body.to_bytes()))
        });
        let (head, body) = answer.await.map_err(|_| unreachable(format!("no answer in {} s", CALL.as_secs())))??;
        let read: Option<Value> = serde_json::from_slice(&body).ok();
        if head.status != StatusCode::OK {
            return Err(refusal(head.status, read.as_ref()));
        }
        match read {
            Some(Value::Array(items)) => {
                let next = head.headers.get(LINK).and_then(|link| link.to_str().ok()).and_then(next_of);
                Ok(Page { items, next })
            }
            _ => Err(unreachable("what answers there is no gateway of Berth".to_owned())),
        }
    }
}

/// The address of a gateway: no path, and a token goes in the clear to this machine alone.
fn place(url: &str) -> Result<Uri, Failure> {
    let wrong = |why: &str| {
        Failure::new(Exit::Usage, format!("--gateway {url}: {why}"))
            .next("write a URL such as https://berth.example.org")
    };
    let place: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
    let host = place.host().ok_or_else(|| wrong("names no host"))?;
    if place.scheme().is_none() {
        return Err(wrong("is no URL of HTTP"));
    }
    if place.path() != "/" || place.query().is_some() {
        return Err(wrong("has a path: the API's own is added"));
    }
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match place.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => Ok(place),
        Some(scheme) if *scheme == Scheme::HTTP && is_here => Ok(place),
        Some(scheme) if *scheme == Scheme::HTTP => Err(wrong("your token would travel in the clear")),
        _ => Err(wrong("is no URL of HTTP")),
    }
}

/// The page that comes next, as the header `Link` has it.
fn next_of(link: &str) -> Option<String> {
    let (path, relation) = link.strip_prefix('<')?.split_once('>')?;
    (relation.contains("rel=\"next\"") && path.starts_with('/')).then(|| path.to_owned())
}

fn refusal(status: StatusCode, body: Option<&Value>) -> Failure {
    let detail = body.and_then(|body| body["detail"].as_str()).unwrap_or("it says no more").to_owned();
    match status.as_u16() {
        401 => Failure::new(
            Exit::Refused,
            "the gateway does not know you: the token is missing, has expired or is for somebody else",
        )
        .next(format!("the token of {TOKEN} or of your kubeconfig must be one for the audience berth")),
        404 => Failure::new(Exit::NotFound, format!("the gateway: {detail}")),
        400 | 422 => Failure::new(Exit::Usage, format!("the gateway: {detail}")),
        403 | 409 => Failure::new(Exit::Refused, format!("the gateway: {detail}")),
        code => Failure::new(Exit::Failed, format!("the gateway ({code}): {detail}")),
    }
}

/// `text` in a query.
pub fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_travels_in_the_clear_to_this_machine_alone() {
        for url in ["https://berth.example.org", "http://127.0.0.1:8000", "http://localhost:8000/", "http://[::1]:8000"]
        {
            assert!(place(url).is_ok(), "{url}");
        }
        for (url, why) in [
            ("http://berth.example.org", "in the clear"),
            ("http://127.0.0.1.example.org", "in the clear"),
            ("https://berth.example.org/api", "has a path"),
            ("berth.example.org", "no URL of HTTP"),
            ("ftp://berth.example.org", "no URL of HTTP"),
            ("https://", "is no URL"),
        ] {
            let said = place(url).unwrap_err();
            assert!(said.message().contains(why), "{url}: {said}");
        }
    }

    #[test]
    fn the_next_page_is_one_of_the_same_gateway() {
        assert_eq!(next_of("</api/sessions?cursor=a>; rel=\"next\"").as_deref(), Some("/api/sessions?cursor=a"));
        assert_eq!(next_of("<https://elsewhere.example.org/>; rel=\"next\""), None);
        assert_eq!(next_of("</api/sessions>; rel=\"prev\""), None);
        assert_eq!(escaped("ana@example.org & co"), "ana%40example.org%20%26%20co");
    }
}
