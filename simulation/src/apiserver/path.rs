//! From a request on the wire to a call. Owns paths, queries and media types; what a call means is `verbs`' and
//! `read`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use serde_json::Value;

use super::call::{Call, Verb};
use super::kinds::Kinds;
use super::refusal::Refusal;

/// Media types of changes that are understood.
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
/// The other one.
pub(super) const JSON_PATCH: &str = "application/json-patch+json";

/// Understands a request.
///
/// # Errors
/// When there is no such resource, or the request cannot be read.
pub(super) fn read(kinds: &Kinds, who: &str, at: Duration, request: &Request<Bytes>) -> Result<Call, Refusal> {
    let nothing = || Refusal::new(404, "NotFound", "the server could not find the requested resource");
    let segments: Vec<&str> = request.uri().path().split('/').filter(|segment| !segment.is_empty()).collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(nothing()),
    };
    let (namespace, rest) = match rest {
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, rest @ ..] => (*namespace, rest),
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return Err(nothing()),
    };
    let kind = kinds.find(group, version, plural).ok_or_else(nothing)?;
    if kind.namespaced == namespace.is_empty() && !(kind.namespaced && name.is_empty()) {
        return Err(nothing());
    }
    if !subresource.is_empty() && !serves(kind.has_status, &kind.plural, subresource) {
        return Err(nothing());
    }
    let query = query(request.uri().query().unwrap_or_default());
    let verb = verb(request.method(), name, subresource, &query)?;
    let header = |name: header::HeaderName| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let body = match request.body().as_ref() {
        [] => Value::Null,
        bytes => serde_json::from_slice(bytes)
            .map_err(|error| Refusal::bad_request(format!("error decoding the request: {error}")))?,
    };
    let in_body = || body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let dry = query.get("dryRun").is_some_and(|value| value == "All")
        || (verb == Verb::Delete && body.pointer("/dryRun/0").is_some());
    Ok(Call {
        number: 0,
        who: who.to_owned(),
        at,
        verb,
        kind: Arc::clone(kind),
        namespace: namespace.to_owned(),
        name: if verb == Verb::Create && name.is_empty() { in_body() } else { name.to_owned() },
        subresource: subresource.to_owned(),
        is_write: !dry && !matches!(verb, Verb::Get | Verb::List | Verb::Watch),
        is_dry: dry,
        query,
        body: Arc::new(body),
        content_type: header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().to_owned(),
        metadata_only: header(header::ACCEPT).contains("as=PartialObjectMetadata"),
    })
}

fn serves(has_status: bool, plural: &str, subresource: &str) -> bool {
    match subresource {
        "status" => has_status,
        "binding" => plural == "pods",
        "finalize" => plural == "namespaces",
        _ => false,
    }
}

fn verb(method: &Method, name: &str, subresource: &str, query: &BTreeMap<String, String>) -> Result<Verb, Refusal> {
    let watches = query.get("watch").is_some_and(|value| value == "true" || value == "1");
    match *method {
        Method::GET if !name.is_empty() => Ok(Verb::Get),
        Method::GET if watches => Ok(Verb::Watch),
        Method::GET => Ok(Verb::List),
        Method::POST if name.is_empty() || subresource == "binding" => Ok(Verb::Create),
        Method::PUT if !name.is_empty() => Ok(Verb::Update),
        Method::PATCH if !name.is_empty() => Ok(Verb::Patch),
        Method::DELETE if !name.is_empty() && subresource.is_empty() => Ok(Verb::Delete),
        Method::DELETE if subresource.is_empty() => Ok(Verb::DeleteCollection),
        _ => Err(Refusal::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )),
    }
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (plain(key), plain(value)))
        .collect()
}

/// What `%20` and `+` stand for.
fn plain(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                let code = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                match code {
                    Some(code) => {
                        bytes.push(code);
                        rest = after;
                    }
                    None => bytes.push(b'%'),
                }
            }
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_path(method: &str, path: &str) -> Result<Call, Refusal> {
        let request = Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
        read(&Kinds::default(), "me", Duration::ZERO, &request)
    }

    #[test]
    fn a_path_names_its_kind_its_object_and_what_is_to_be_done() {
        let call =
            read_path("PATCH", "/apis/berth.dev/v1alpha1/namespaces/demo/sessions/ana/status?dryRun=All").unwrap();
        assert_eq!((call.verb, call.kind.kind.as_str()), (Verb::Patch, "Session"));
        assert_eq!((call.namespace.as_str(), call.name.as_str(), call.subresource.as_str()), ("demo", "ana", "status"));
        assert!(!call.is_write);
        assert_eq!(read_path("GET", "/api/v1/pods?watch=true").unwrap().verb, Verb::Watch);
        assert_eq!(read_path("GET", "/api/v1/namespaces/demo").unwrap().name, "demo");
    }

    #[test]
    fn a_selector_is_read_as_it_was_meant() {
        let call = read_path("GET", "/api/v1/namespaces/a/pods?labelSelector=x%20in+%28a%2Cb%29").unwrap();
        assert_eq!(call.query["labelSelector"], "x in (a,b)");
        assert_eq!(plain("100%"), "100%");
    }

    #[test]
    fn what_is_not_served_is_not_found() {
        for path in
            ["/api/v1/trees", "/apis/berth.dev/v2/sessions", "/", "/api/v1/pods/a", "/api/v1/namespaces/a/nodes/b"]
        {
            assert_eq!(read_path("GET", path).map_err(|refusal| refusal.code).err(), Some(404), "{path}");
        }
    }
}
