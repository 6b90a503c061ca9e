//! Output as a page shows it beside output as it is. Owns which parts vary from run to run: spaces between words, and
//! in the words times, spans of time, addresses, uids and the letters behind a name that Kubernetes made up.

use regex::Regex;
use std::sync::LazyLock;

/// What varies, and what stands in its place while two outputs are compared; the first that fits is taken first.
static VARIES: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "TIME"),
        (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UID"),
        (r"\b\d{1,3}(\.\d{1,3}){3}\b", "ADDRESS"),
        // The name of a pod of a Deployment, of an instance or a volume, and what `generateName` makes.
        (r"-[bcdf-hj-np-tv-z2456789]{8,10}-[bcdf-hj-np-tv-z2456789]{5}\b", "-LETTERS"),
        (r"-[0-9a-f]{10}\b", "-LETTERS"),
        (r"-[bcdf-hj-np-tv-z2456789]{5}\b", "-LETTERS"),
        (r"\b\d+(\.\d+)?(ms|[smhdy])(\d+(ms|[smhd]))*\b", "SPAN"),
    ]
    .into_iter()
    .filter_map(|(pattern, name)| Some((Regex::new(pattern).ok()?, name)))
    .collect()
});

/// Whether two outputs say the same.
pub fn same(shown: &str, printed: &str) -> bool {
    normal(shown) == normal(printed)
}

fn normal(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
        VARIES.iter().fold(words, |line, (pattern, name)| pattern.replace_all(&line, *name).into_owned())
    };
    let mut lines: Vec<String> = text.lines().map(line).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_the_same() {
        assert_eq!(VARIES.len(), 7, "a pattern is none");
        for (shown, printed) in [
            ("a  b   3m20s", "a b 4s"),
            ("ends 2026-01-31T12:30:00Z", "ends 2027-02-01T00:00:00Z"),
            ("http://10.244.0.7:8080/", "http://10.244.0.19:8080/"),
            ("session/kiosk-x7k2p created", "session/kiosk-bbn49 created"),
            ("pod/berth-operator-5cdb86d5f7-bzpj9", "pod/berth-operator-66d8f4b9c-2xkqv"),
            ("pod/ana-desktop-0123456789", "pod/ana-desktop-fedcba9876"),
            ("uid 4b0b3f0e-6a0c-4e0d-8f0a-0a0b0c0d0e0f", "uid 00000000-0000-0000-0000-000000000000"),
            ("a\n", "a"),
        ] {
            assert!(same(shown, printed), "{shown} / {printed}");
        }
    }

    #[test]
    fn what_is_said_is_not() {
        for (shown, printed) in [
            ("Active", "Idle"),
            ("1/1", "0/1"),
            ("SESSIONS 0", "SESSIONS 1"),
            ("a\nb", "a"),
            ("a", "a\nb"),
            ("port 8080", "port 8081"),
            ("berth 0.1.0", "berth 0.2.0"),
            ("ana-desktop", "ben-desktop"),
            ("", "error"),
        ] {
            assert!(!same(shown, printed), "{shown} / {printed}");
        }
    }
}
