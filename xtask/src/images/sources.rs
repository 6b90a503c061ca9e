//! Where this machine gets Debian from, and where another Debian release is to be had from the same mirrors.
//!
//! Owns reading apt's lists. No mirror is written in this repository: an image is made from what the machine itself
//! uses, whatever that is called and whoever stands between.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The keyring of the package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One archive of packages, for one of apt's suites.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    uri: String,
    suite: String,
    components: String,
    signed_by: Option<String>,
}

/// Apt's sources for a release, in its own format, derived from the machine's.
pub fn for_release(release: &str) -> Result<String> {
    let os = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let own = os
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no release: images are made on Debian")?;
    let mut entries = Vec::new();
    for path in lists()? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if path.extension().is_some_and(|e| e == "sources") {
            entries.extend(stanzas(&text));
        } else {
            entries.extend(lines(&text));
        }
    }
    for entry in &mut entries {
        entry.uri = without_mirror_list(&entry.uri);
        entry.signed_by = entry.signed_by.take().filter(|key| Path::new(key).exists());
        if entry.signed_by.is_none() && Path::new(KEYRING).exists() {
            entry.signed_by = Some(KEYRING.to_owned());
        }
    }
    derive(&entries, &own, release)
}

fn lists() -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
        for entry in folder {
            found.push(entry?.path());
        }
    }
    found.retain(|path| path.is_file() && path.extension().is_some_and(|e| e == "list" || e == "sources"));
    found.sort();
    Ok(found)
}

/// The machine's entries for its own release, with the other release's suites in their place.
fn derive(entries: &[Entry], own: &str, release: &str) -> Result<String> {
    let mut text = String::new();
    for suffix in ["", "-updates", "-security"] {
        let suite = format!("{own}{suffix}");
        let Some(entry) = entries.iter().find(|e| e.suite == suite) else {
            continue;
        };
        text.push_str(&format!("Types: deb\nURIs: {}\nSuites: {release}{suffix}\nComponents: main\n", entry.uri));
        if let Some(key) = &entry.signed_by {
            text.push_str(&format!("Signed-By: {key}\n"));
        }
        text.push('\n');
    }
    if !text.contains(&format!("Suites: {release}\n")) {
        bail!("apt's lists have no archive for {own}: images are made on Debian, from its own mirrors");
    }
    Ok(text)
}

/// Entries of a file in apt's newer format.
fn stanzas(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            entries.extend(stanza(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    entries
}

fn stanza(fields: &[(String, String)]) -> Vec<Entry> {
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
    let off = matches!(field("enabled"), "no" | "false");
    if off || !field("types").split_whitespace().any(|t| t == "deb") {
        return Vec::new();
    }
    let signed_by = Some(field("signed-by")).filter(|k| k.starts_with('/')).map(str::to_owned);
    let mut entries = Vec::new();
    for uri in field("uris").split_whitespace() {
        for suite in field("suites").split_whitespace() {
            entries.push(Entry {
                uri: uri.to_owned(),
                suite: suite.to_owned(),
                components: field("components").to_owned(),
                signed_by: signed_by.clone(),
            });
        }
    }
    entries.retain(has_main);
    entries
}

/// Entries of a file in apt's older format: `deb [options] uri suite components`.
fn lines(text: &str) -> Vec<Entry> {
    text.lines().filter_map(one_line).filter(has_main).collect()
}

fn one_line(line: &str) -> Option<Entry> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    Some(Entry {
        uri: words.next()?.to_owned(),
        suite: words.next()?.to_owned(),
        components: words.collect::<Vec<_>>().join(" "),
        signed_by: options
            .split_whitespace()
            .find_map(|o| o.strip_prefix("signed-by="))
            .filter(|k| k.starts_with('/'))
            .map(str::to_owned),
    })
}

/// Other vendors' archives may use a Debian release's name too; what Debian is made of lies in `main`, and another
/// vendor's suite of the very same name with a `main` comes after Debian's own list.
fn has_main(entry: &Entry) -> bool {
    entry.components.split_whitespace().any(|c| c == "main")
}

/// A list of mirrors in a file is on this machine but not in an image: its first mirror stands for all.
fn without_mirror_list(uri: &str) -> String {
    let first = |path: &str| {
        let text = fs::read_to_string(path.trim_start_matches("//")).ok()?;
        let line = text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#'))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    uri.strip_prefix("mirror+file:").and_then(first).unwrap_or_else(|| uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main
";

    #[test]
    fn another_release_comes_from_the_same_mirrors() -> Result<()> {
        let text = derive(&stanzas(STANZAS), "bookworm", "trixie")?;
        let expected = "\
Types: deb
URIs: http://mirror.example/debian
Suites: trixie
Components: main
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://mirror.example/debian
Suites: trixie-updates
Components: main
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://mirror.example/security
Suites: trixie-security
Components: main

";
        assert_eq!(text, expected);
        Ok(())
    }

    #[test]
    fn the_older_format_is_read_too() -> Result<()> {
        let list = "\
# deb http://commented.example/debian bookworm main
deb http://vendor.example/apt cloud-bookworm main
deb [arch=amd64 signed-by=/keys/d.gpg] http://mirror.example/debian bookworm main non-free
deb-src http://mirror.example/debian bookworm main
deb http://other.example/debian bookworm contrib
";
        let entries = lines(list);
        let text = derive(&entries, "bookworm", "bookworm")?;
        assert_eq!(
            text,
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\nSigned-By: /keys/d.gpg\n\n"
        );
        Ok(())
    }

    #[test]
    fn without_an_archive_of_the_own_release_there_is_no_guess() {
        assert!(derive(&stanzas(STANZAS), "noble", "trixie").is_err());
        assert!(derive(&[], "bookworm", "trixie").is_err());
    }
}
