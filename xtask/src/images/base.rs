//! Debian's base images, made from Debian's packages: they stand in for the ones that a registry would give.
//!
//! Owns the recipe. The names are the registry's, so that a Dockerfile builds here as it does with Docker.

use super::sources;
use super::store::{self, Store};
use crate::cache::Cache;
use crate::run::step;
use anyhow::{Context, Result};
use std::fs;

/// A base image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Debian 12
    Bookworm,
    /// Debian 13
    Trixie,
}

/// Documentation and translations stay out, as in the registry's `slim` images.
const LEFT_OUT: [&str; 5] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
];

/// The machine's own names have no place in an image.
const HOOK: &str = "rm -f \"$1\"/etc/resolv.conf \"$1\"/etc/hostname";

const DOCKERFILE: &str = "FROM scratch\nADD base.tar /\nCMD [\"bash\"]\n";

impl Base {
    fn release(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// Which packages: in trixie `apt` no longer brings `useradd`.
    fn variant(self) -> &'static str {
        match self {
            Self::Bookworm => "apt",
            Self::Trixie => "minbase",
        }
    }

    /// The name as Dockerfiles write it.
    pub fn short_name(self) -> String {
        format!("debian:{}-slim", self.release())
    }

    /// All that decides what the base consists of, but for the packages' versions on the day.
    pub fn recipe(self) -> Result<String> {
        Ok(format!(
            "{} {} {LEFT_OUT:?} {HOOK} {DOCKERFILE}\n{}",
            self.release(),
            self.variant(),
            sources::for_release(self.release())?
        ))
    }
}

/// Makes the base image unless the storage has it.
pub fn ensure(store: &Store, cache: &Cache, base: Base, fresh: bool) -> Result<()> {
    let key = super::short_digest(&base.recipe()?)?;
    let kept = format!("localhost/berth-base-{}:{key}", base.release());
    let name = format!("docker.io/library/{}", base.short_name());
    if fresh || !store.has(&kept) {
        step(&format!("image {}: making it from Debian packages", base.short_name()), || {
            make(store, cache, base, &kept)
        })?;
    }
    store.tag(&kept, &name)
}

fn make(store: &Store, cache: &Cache, base: Base, name: &str) -> Result<()> {
    let folder = store::work(cache).join(format!("base-{}", base.release()));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let sources = folder.join("debian.sources");
    fs::write(&sources, sources::for_release(base.release())?)?;
    fs::write(folder.join("Dockerfile"), DOCKERFILE)?;
    let log = cache.logs().join(format!("image-{}.log", base.release()));
    let mut run = store::contained("mmdebstrap")
        .env("TMPDIR", &folder)
        .args(["--mode=root", &format!("--variant={}", base.variant())]);
    for option in LEFT_OUT {
        run = run.arg(format!("--dpkgopt={option}"));
    }
    run.arg(format!("--customize-hook={HOOK}"))
        .arg(base.release())
        .arg(folder.join("base.tar"))
        .arg(&sources)
        .log(&log)
        .advice("packages come from this machine's Debian mirrors: does `apt-get update` work?")
        .quiet()?;
    store.build(&folder, name, true, &[]).log(&log).quiet()?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}
