//! Where traces are sent: our own flag and file, or else OpenTelemetry's own variables. Owns what counts as a collector's
//! URL; how long a request may take and what else the standard has variables for, the exporter reads itself.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, bail, ensure};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Uri};
use serde::Deserialize;

/// Where a collector takes traces.
const PATH: &str = "/v1/traces";

/// A collector, whole: it is sent to as it stands here.
const WHOLE: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

/// A collector of every signal, below which traces have their path.
const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// How a collector of these variables is to be spoken to.
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

/// The one protocol that is spoken here.
const PROTOCOL: &str = "http/protobuf";

/// The section `traces` of the configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    endpoint: Option<String>,
    headers: BTreeMap<String, String>,
}

/// The collector that traces are sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceSettings {
    /// The whole URL.
    pub endpoint: Uri,
    /// What goes with each request; the environment may add to it.
    pub headers: BTreeMap<String, String>,
}

/// Without the values of the headers, which may be credentials.
impl fmt::Debug for TraceSettings {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&String> = self.headers.keys().collect();
        to.debug_struct("TraceSettings").field("endpoint", &self.endpoint).field("headers", &headers).finish()
    }
}

/// The collector by `flag`, or else by `file`, or else by the `environment`; none where nobody names one.
pub(super) fn settle(
    flag: Option<String>,
    file: File,
    environment: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<TraceSettings>> {
    // What is set to nothing says nothing.
    let set = |value: &String| !value.trim().is_empty();
    let variable = |name: &str| environment(name).filter(set);
    for (name, value) in &file.headers {
        ensure!(HeaderName::try_from(name).is_ok(), "traces.headers: `{name}` is no header's name");
        ensure!(HeaderValue::try_from(value).is_ok(), "traces.headers.{name}: its value cannot be sent");
    }
    let ours = flag.filter(set).or(file.endpoint.filter(set));
    let endpoint = match (ours, variable(WHOLE), variable(BASE)) {
        (Some(ours), ..) => at_path(&ours).context("the endpoint of traces is wrong")?,
        (None, Some(whole), _) => url(&whole).with_context(|| format!("{WHOLE} is wrong"))?,
        (None, None, Some(base)) => at_path(&base).with_context(|| format!("{BASE} is wrong"))?,
        (None, None, None) => return Ok(None),
    };
    if let Some((name, other)) = PROTOCOLS.iter().find_map(|name| Some((name, variable(name)?)))
        && other != PROTOCOL
    {
        bail!(
            "{name} is `{other}`, and Berth sends traces by {PROTOCOL} alone: set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL to that, \
             and name the collector's port for HTTP, usually 4318"
        );
    }
    Ok(Some(TraceSettings { endpoint, headers: file.headers }))
}

/// Where the collector at `base` takes traces; a URL that says so already stays as it is.
fn at_path(base: &str) -> anyhow::Result<Uri> {
    // The path alone is looked at: a host may be called `v1`.
    let has_path = url(base)?.path().trim_end_matches('/').ends_with(PATH);
    let base = base.trim().trim_end_matches('/');
    if has_path { url(base) } else { url(&format!("{base}{PATH}")) }
}

fn url(text: &str) -> anyhow::Result<Uri> {
    let text = text.trim();
    let uri: Uri = text
        .parse()
        .ok()
        .filter(|uri: &Uri| uri.scheme().is_some() && uri.host().is_some_and(|host| !host.is_empty()))
        .with_context(|| {
            format!("`{}` is no URL: write one such as http://collector:4318", without_credentials(text))
        })?;
    let scheme = uri.scheme_str().unwrap_or_default();
    ensure!(
        [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme()),
        "`{scheme}` is not spoken: write http:// or https://"
    );
    // It is read over, and what is put behind it too.
    ensure!(!text.contains('#'), "a collector's URL has no fragment: leave out what begins with `#`");
    ensure!(
        uri.query().is_none() && !uri.authority().is_some_and(|authority| authority.as_str().contains('@')),
        "a URL is logged and holds no credentials and no query: put them into a header, by OTEL_EXPORTER_OTLP_HEADERS"
    );
    Ok(uri)
}

/// `text` as far as it can be shown. A password may hold a `?`, and a key in a query an `@`: where both stand, it cannot be
/// told which is which, and nothing is shown.
fn without_credentials(text: &str) -> &str {
    match (text.rsplit_once('@'), text.split_once('?')) {
        (None, None) => text,
        (Some((_, place)), None) => place,
        (None, Some((place, _))) => place,
        (Some(_), Some(_)) => "…",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        serde_saphyr::from_str(text).unwrap()
    }

    fn settled(flag: &str, text: &str, environment: &[(&str, &str)]) -> Result<Option<String>, String> {
        let flag = Some(flag.to_owned()).filter(|flag| !flag.is_empty());
        let value = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let settled = settle(flag, file(text), value).map_err(|error| format!("{error:#}"))?;
        Ok(settled.map(|settings| settings.endpoint.to_string()))
    }

    #[test]
    fn nothing_is_sent_unless_somebody_names_a_collector() {
        assert_eq!(settled("", "{}", &[]), Ok(None));
        assert_eq!(settled("", "{headers: {a: b}}", &[(BASE, ""), (PROTOCOLS[0], "grpc")]), Ok(None));
    }

    #[test]
    fn the_flag_goes_over_the_file_and_that_over_the_variables_of_opentelemetry() {
        let standard = [(WHOLE, "http://whole:1/other"), (BASE, "http://base:1/")];
        for (flag, text, environment, wanted) in [
            ("http://flag:1", "{endpoint: 'http://file:1'}", &standard[..], "http://flag:1/v1/traces"),
            ("", "{endpoint: 'https://file:1/below/'}", &standard[..], "https://file:1/below/v1/traces"),
            ("", "{endpoint: 'http://file:1/v1/traces'}", &standard[..], "http://file:1/v1/traces"),
            ("", "{}", &standard[..], "http://whole:1/other"),
            ("", "{}", &standard[1..], "http://base:1/v1/traces"),
            ("http://[::1]:4318", "{}", &[], "http://[::1]:4318/v1/traces"),
            ("http://v1/traces/", "{}", &[], "http://v1/traces/v1/traces"),
        ] {
            assert_eq!(settled(flag, text, environment), Ok(Some(wanted.to_owned())), "{flag} {text}");
        }
    }

    #[test]
    fn what_is_no_collector_is_refused_with_words() {
        for (flag, words) in [
            ("collector:4318", "`collector:4318` is no URL: write one such as http://collector:4318"),
            ("/v1/traces", "is no URL"),
            ("http://", "is no URL"),
            ("grpc://collector:4317", "`grpc` is not spoken"),
            ("http://collector:4318?key=hidden", "no credentials and no query"),
            ("http://me:hidden@collector:4318", "no credentials and no query"),
            ("http://collector:4318#hidden", "no fragment"),
            ("me:hidden@a b", "is no URL"),
            ("me:hidden?word@a b", "is no URL"),
            ("http://[collector?key=me@hidden", "is no URL"),
        ] {
            let error = settled(flag, "{}", &[]).unwrap_err();
            assert!(error.contains(words) && error.contains("the endpoint of traces is wrong"), "{flag}: {error}");
            assert!(!error.contains("hidden"), "{error}");
        }
        assert!(settled("", "{}", &[(WHOLE, "nowhere")]).unwrap_err().contains(WHOLE));
        assert!(settled("", "{}", &[(BASE, "nowhere")]).unwrap_err().contains("OTEL_EXPORTER_OTLP_ENDPOINT is wrong"));
        for text in ["{headers: {'a b': c}}", "{headers: {a: \"b\\nc\"}}"] {
            assert!(settled("", text, &[]).unwrap_err().contains("traces.headers"), "{text}");
        }
    }

    #[test]
    fn a_collector_of_another_protocol_is_refused_with_words() {
        let grpc = [(BASE, "http://collector:4317"), (PROTOCOLS[1], "grpc")];
        let error = settled("", "{}", &grpc).unwrap_err();
        assert!(error.contains("OTEL_EXPORTER_OTLP_PROTOCOL is `grpc`") && error.contains("4318"), "{error}");
        let ours = [grpc[0], grpc[1], (PROTOCOLS[0], PROTOCOL)];
        assert!(settled("", "{}", &ours).unwrap().is_some());
    }

    #[test]
    fn the_value_of_a_header_is_not_shown() {
        let told = "{endpoint: 'http://c:1', headers: {authorization: hidden}}";
        let settings = settle(None, file(told), |_| None).unwrap().unwrap();
        assert_eq!(settings.headers["authorization"], "hidden");
        let shown = format!("{settings:?}");
        assert!(shown.contains("authorization") && !shown.contains("hidden"), "{shown}");
    }
}
