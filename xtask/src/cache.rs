//! Where everything that outlives a run is kept, and the lock that lets one run at a time touch it.
//!
//! Owns the cache's folder layout and the machine-wide lock. Does not own what lies in the folders.

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The cache: tools, images and build output, keyed by version, and the cluster's state.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache, and creates its folder when it is missing.
    ///
    /// The root is `$BERTH_CACHE`, else `$XDG_CACHE_HOME/berth`, else `~/.cache/berth`.
    pub fn open() -> Result<Self> {
        let root = root_from(|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))?;
        fs::create_dir_all(&root).with_context(|| {
            format!("cannot create the cache folder {}; set BERTH_CACHE to a folder that you may write", root.display())
        })?;
        // Paths are compared with what the kernel says of mounts and processes, so links are resolved once, here.
        let root = root.canonicalize().with_context(|| format!("cannot resolve {}", root.display()))?;
        Ok(Self { root })
    }

    /// The cache's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of one set of tools; `key` names the set and its version.
    pub fn tools(&self, key: &str) -> PathBuf {
        self.root.join("tools").join(key)
    }

    /// The folder of built container images and what they are built from.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The state of the cluster: all of it goes with `cluster down`.
    pub fn cluster(&self) -> PathBuf {
        self.root.join("cluster")
    }

    /// The state of the control plane that fault plans run on: it goes with `cluster down` too.
    pub fn faults(&self) -> PathBuf {
        self.root.join("faults")
    }

    /// The cargo target folder that the images, the demo and the tests build in: cargo's own variable names it, for
    /// those who work in two clones at once.
    pub fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), PathBuf::from)
    }

    /// The folder of log files of commands that were run quietly.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Removes the cache: the folders that it is made of, and its root if nothing else lies there.
    pub fn purge(&self) -> Result<()> {
        let folders =
            [self.root.join("tools"), self.images(), self.cluster(), self.faults(), self.target(), self.logs()];
        for folder in folders {
            if folder.exists() {
                fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
            }
        }
        // Someone may have pointed BERTH_CACHE at a folder that holds other things too.
        let _ = fs::remove_file(self.root.join("lock"));
        let _ = fs::remove_dir(&self.root);
        Ok(())
    }

    /// Takes the machine-wide lock, waiting for whoever holds it; `purpose` is what others are told meanwhile.
    ///
    /// The kernel releases the lock when this process ends, however it ends. Commands and daemons started
    /// meanwhile do not inherit it.
    pub fn lock(&self, purpose: &str) -> Result<Lock> {
        let path = self.lock_path();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open the lock file {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = living(holder.trim()).unwrap_or("another run");
            eprintln!("waiting for {holder} (lock: {})", path.display());
            flock(&file, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {}", path.display()))?;
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "`cargo xtask {purpose}`, pid {}", std::process::id())?;
        Ok(Lock { file })
    }

    /// One lock for all of a user's caches where the machine offers a place for it: the cluster's ports and
    /// links are the machine's, whatever folder its state lies in.
    fn lock_path(&self) -> PathBuf {
        let shared = Path::new("/run/lock");
        let name = format!("berth-{}.lock", rustix::process::getuid().as_raw());
        if rustix::fs::access(shared, rustix::fs::Access::WRITE_OK).is_ok() {
            shared.join(name)
        } else {
            self.root.join("lock")
        }
    }
}

/// Evidence that this process holds the machine-wide lock; dropping it lets the next one in.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

/// What a lock file says of the lock's holder, unless that one has been killed and the next has not written yet.
fn living(holder: &str) -> Option<&str> {
    let (_, pid) = holder.rsplit_once(' ')?;
    Path::new("/proc").join(pid).exists().then_some(holder)
}

fn root_from(var: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    if let Some(root) = var("BERTH_CACHE") {
        return Ok(std::path::absolute(root)?);
    }
    if let Some(base) = var("XDG_CACHE_HOME") {
        return Ok(base.join("berth"));
    }
    let home = var("HOME").context("neither BERTH_CACHE nor HOME is set: set BERTH_CACHE to a folder for caches")?;
    Ok(home.join(".cache").join("berth"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_follows_the_environment() -> Result<()> {
        let vars = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v))
        };
        let all = vars(&[("BERTH_CACHE", "/b"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]);
        assert_eq!(root_from(all)?, Path::new("/b"));
        assert_eq!(root_from(vars(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]))?, Path::new("/x/berth"));
        assert_eq!(root_from(vars(&[("HOME", "/h")]))?, Path::new("/h/.cache/berth"));
        assert!(root_from(vars(&[])).is_err());
        Ok(())
    }
}
