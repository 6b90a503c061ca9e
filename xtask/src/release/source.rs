//! What is released: the version, the commit and its time, and what labels say of them.

use super::Arch;
use crate::compile;
use crate::run::Run;
use anyhow::{Context, Result, ensure};

/// The commit that a release is made from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The version of the workspace.
    pub version: String,
    /// The commit's digest.
    pub revision: String,
    /// The commit's time in seconds: every time in an artefact is this one.
    pub epoch: u64,
    /// The same as RFC 3339 has it.
    pub created: String,
    /// Where the source is to be had.
    pub url: Option<String>,
}

impl Source {
    /// Reads the commit that the folder is at. Changes that are in no commit are refused, or told in the revision.
    pub fn read(url: Option<String>, dirty: bool) -> Result<Self> {
        let git = |args: &[&str]| {
            let run = Run::new("git").dir(compile::root()).env("TZ", "UTC").args(args);
            run.advice("a release is made from a clone of the repository").output().map(|text| text.trim().to_owned())
        };
        let changes = git(&["status", "--porcelain"])?;
        ensure!(changes.is_empty() || dirty, "changes that are in no commit: commit them, or say --dirty\n{changes}");
        let commit = git(&["rev-parse", "HEAD"])?;
        let form = "--date=format-local:%Y-%m-%dT%H:%M:%SZ";
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: if changes.is_empty() { commit } else { format!("{commit}-dirty") },
            epoch: git(&["show", "--no-patch", "--format=%ct", "HEAD"])?.parse().context("git names no time")?,
            created: git(&["show", "--no-patch", form, "--format=%cd", "HEAD"])?,
            url: url.or_else(|| Some(env!("CARGO_PKG_REPOSITORY").to_owned())).filter(|url| !url.is_empty()),
        })
    }

    /// How an artefact's files are called, but for the ending.
    pub fn stem(&self, name: &str, arch: Arch) -> String {
        format!("{name}-{}-linux-{}", self.version, arch.name())
    }

    /// What every artefact says of where it comes from.
    pub fn origin(&self) -> Vec<(String, String)> {
        let said =
            [("created", Some(&self.created)), ("revision", Some(&self.revision)), ("source", self.url.as_ref())];
        let named = said.into_iter().filter_map(|(key, value)| Some((key, value?)));
        named.map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.clone())).collect()
    }

    /// An image's labels beside those that stand in its Dockerfile: title, description, licences and base.
    pub fn labels(&self) -> Vec<(String, String)> {
        let version = ("org.opencontainers.image.version".to_owned(), self.version.clone());
        std::iter::once(version).chain(self.origin()).collect()
    }
}

/// A source for tests.
#[cfg(test)]
pub fn example() -> Source {
    Source {
        version: "1.2.3".to_owned(),
        revision: "0123abcd".to_owned(),
        epoch: 1_700_000_000,
        created: "2023-11-14T22:13:20Z".to_owned(),
        url: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_what_is_known_and_nothing_else() {
        let keys = |source: &Source| {
            let labels = source.labels().into_iter();
            labels.map(|(key, _)| key.replace("org.opencontainers.image.", "")).collect::<Vec<_>>()
        };
        let plain = example();
        assert_eq!(keys(&plain), ["version", "created", "revision"]);
        let told = Source { url: Some("https://example.org/berth".to_owned()), ..plain };
        assert_eq!(keys(&told), ["version", "created", "revision", "source"]);
    }

    #[test]
    fn the_time_of_the_commit_is_told_in_both_forms_alike() -> Result<()> {
        let source = Source::read(None, true)?;
        let told =
            Run::new("date").args(["-u", "-d", &format!("@{}", source.epoch), "+%Y-%m-%dT%H:%M:%SZ"]).output()?;
        assert_eq!(told.trim(), source.created);
        Ok(())
    }
}
