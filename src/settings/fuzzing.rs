//! The body of the fuzz target about settings: the configuration file, the collector's URL, and what a refusal shows.

use super::traces::{self, TraceSettings};
use super::{Common, Flags, Settings, is_dns_label, parse};

/// What no text of ours has.
const SECRET: &str = "ZuHauseUm4";

/// A configuration file and a collector's URL give settings that are sound, or are refused in words that show no
/// credentials; given again, they give the same.
///
/// The input is a file, and after a byte 0 the value of the flag for traces.
///
/// # Panics
/// When that does not hold.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, flag) = text.split_once('\0').unwrap_or((text, ""));
    if let Ok(read) = parse(file) {
        let common =
            Common { namespace: "berth-system".to_owned(), identity: Some("me".to_owned()), ..Common::default() };
        let flags = Flags { common, traces_endpoint: Some(flag.to_owned()) };
        let settled = flags.clone().over(read.clone()).map_err(|error| format!("{error:#}"));
        assert_eq!(settled, flags.over(read).map_err(|error| format!("{error:#}")), "another answer the second time");
        match settled {
            Ok(settings) => sound(&settings),
            Err(words) => assert!(!words.is_empty()),
        }
    }
    shows_no_credentials(flag);
}

fn sound(settings: &Settings) {
    let names = &settings.role.watch_namespaces;
    assert!(names.is_sorted_by(|one, next| one < next) && names.iter().all(|name| is_dns_label(name)), "{names:?}");
    let Some(TraceSettings { endpoint, headers }) = &settings.traces else { return };
    assert!(["http", "https"].contains(&endpoint.scheme_str().unwrap_or_default()), "{endpoint}");
    assert!(endpoint.host().is_some_and(|host| !host.is_empty()) && endpoint.query().is_none(), "{endpoint}");
    assert!(!endpoint.authority().is_some_and(|authority| authority.as_str().contains('@')), "{endpoint}");
    assert!(endpoint.path().ends_with("/v1/traces"), "{endpoint}");
    let again = collector(&endpoint.to_string());
    assert_eq!(again, Ok(Some(endpoint.to_string())), "what was settled is settled");
    let shown = format!("{settings:?}");
    let hidden = headers.values().filter(|value| value.contains(SECRET));
    assert!(hidden.into_iter().count() == 0 || !shown.contains(SECRET), "{shown}");
}

fn collector(flag: &str) -> Result<Option<String>, String> {
    let settled = traces::settle(Some(flag.to_owned()), traces::File::default(), |_| None);
    settled.map(|settled| settled.map(|it| it.endpoint.to_string())).map_err(|error| format!("{error:#}"))
}

/// A password stands before an `@`, and may hold anything; a key may stand in a query. Neither is shown when the URL is
/// refused, wherever else it is wrong.
fn shows_no_credentials(flag: &str) {
    if flag.contains(SECRET) {
        return;
    }
    let begin = flag.find("://").map_or(0, |at| at + "://".len());
    let passwords = flag.match_indices('@').flat_map(|(at, _)| [begin.min(at), at]);
    let keys = flag.match_indices('?').map(|(at, _)| at + 1);
    for at in passwords.chain(keys) {
        let (before, after) = flag.split_at(at);
        if let Err(words) = collector(&format!("{before}{SECRET}{after}")) {
            assert!(!words.contains(SECRET), "{before}{SECRET}{after}: {words}");
        }
    }
}
