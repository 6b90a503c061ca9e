//! buildah: its storage in the cache, the commands on it, and leaving nothing of them behind.
//!
//! Every command runs in namespaces of its own for mounts and processes. When it ends, or is killed together with this
//! program, the kernel takes its mounts and children along: there is nothing to clean up and nothing to compare.

use super::archive;
use crate::cache::Cache;
use crate::run::{Run, step};
use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

/// Storage drivers, the faster one first. The second works on any file system, by copying.
const DRIVERS: [&str; 2] = ["overlay", "vfs"];

/// Programs that building needs, each with its Debian package.
const PROGRAMS: [(&str, &str); 5] = [
    ("buildah", "buildah"),
    ("mmdebstrap", "mmdebstrap"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
];

/// The storage that images are built in.
pub struct Store {
    folder: PathBuf,
    driver: &'static str,
}

impl Store {
    /// Opens the storage, and installs what building needs.
    pub fn open(cache: &Cache) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("images are built as root here; without root build them with Docker: images/README.md says how");
        }
        install(cache)?;
        let folder = cache.images().join("storage");
        let stores = DRIVERS.map(|driver| Self { folder: folder.join(driver), driver });
        for store in stores {
            // A storage that exists has shown that it works here.
            if store.folder.exists() || store.works()? {
                return Ok(store);
            }
        }
        bail!("buildah has no storage driver that works in {}", folder.display())
    }

    fn works(&self) -> Result<bool> {
        fs::create_dir_all(&self.folder)?;
        let works = self.buildah().arg("info").succeeds();
        if !works {
            fs::remove_dir_all(&self.folder)?;
        }
        Ok(works)
    }

    fn buildah(&self) -> Run {
        contained("buildah")
            // The isolation that needs no other container runtime, and works in a container too.
            .env("BUILDAH_ISOLATION", "chroot")
            .arg("--root")
            .arg(self.folder.join("root"))
            .arg("--runroot")
            .arg(self.folder.join("run"))
            .args(["--storage-driver", self.driver])
    }

    /// Whether there is an image of this name.
    pub fn has(&self, name: &str) -> bool {
        self.buildah().args(["inspect", "--type", "image", name]).succeeds()
    }

    /// Gives an image a second name.
    pub fn tag(&self, name: &str, other: &str) -> Result<()> {
        self.buildah().args(["tag", name, other]).quiet()
    }

    /// The command that builds a folder's Dockerfile. Finished steps are kept, so that an edit far down does not
    /// install everything again; `fresh` does not look at them. `more` are further options.
    pub fn build(&self, folder: &Path, name: &str, fresh: bool, more: &[String]) -> Run {
        self.buildah()
            .args(["build", "--pull-never", "--layers", "--tag", name])
            .args(fresh.then_some("--no-cache"))
            .args(more)
            .arg("--file")
            .arg(folder.join("Dockerfile"))
            .arg(folder)
    }

    /// Removes steps that no image is made of any longer. What is in use stays, with an error that says nothing new.
    pub fn prune(&self) {
        self.buildah().args(["rmi", "--prune"]).succeeds();
    }

    /// Writes an image's archive in Docker's format, under its names.
    pub fn push(&self, name: &str, archive: &Path) -> Result<()> {
        let to = format!("docker-archive:{}:{name}", archive.display());
        self.buildah().args(["push", "--quiet", name, &to]).quiet()
    }

    /// Removes an image by its name.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.buildah().args(["rmi", name]).quiet()
    }

    /// Writes an image's archive in Docker's format, under two names. There is never half an archive.
    pub fn export(&self, name: &str, other: &str, archive: &Path) -> Result<()> {
        let unfinished = archive.with_extension("unfinished");
        fs::create_dir_all(archive.parent().context("an archive lies in a folder")?)?;
        let _ = fs::remove_file(&unfinished);
        self.push(name, &unfinished)?;
        archive::add_name(&unfinished, other)?;
        fs::rename(&unfinished, archive).with_context(|| format!("cannot create {}", archive.display()))
    }
}

/// A command whose mounts and children end with it, and which ends with this program.
pub fn contained(program: impl AsRef<OsStr>) -> Run {
    Run::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(program)
}

/// The folder for what builds read: made anew by each build.
pub fn work(cache: &Cache) -> PathBuf {
    cache.images().join("work")
}

/// The folder of built images.
pub fn archives(cache: &Cache) -> PathBuf {
    cache.images().join("archives")
}

/// Lets one build at a time touch the storage, also within this program. Ends with the value.
pub fn lock(cache: &Cache) -> Result<File> {
    fs::create_dir_all(cache.images())?;
    let path = cache.images().join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        eprintln!("waiting for another build of images (lock: {})", path.display());
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Removes an image's archives but the one that was built last: each is as large as the image.
pub fn remove_older(archive: &Path, prefix: &str) -> Result<()> {
    let folder = archive.parent().context("an archive lies in a folder")?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        if ours && path != archive && path.is_file() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Removes what builds left: the storage, and the archives unless they shall stay.
pub fn clean(cache: &Cache, keep_archives: bool) -> Result<()> {
    let lock = lock(cache)?;
    let mut folders = vec![cache.images().join("storage"), work(cache)];
    if !keep_archives {
        folders.push(archives(cache));
    }
    for folder in folders {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    drop(lock);
    Ok(())
}

fn install(cache: &Cache) -> Result<()> {
    let there =
        |program: &str| ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|f| Path::new(f).join(program).exists());
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    step(&format!("Debian packages: {list}"), || {
        let apt = || {
            Run::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["-o", "DPkg::Lock::Timeout=300"])
                .log(cache.logs().join("packages.log"))
                .advice(format!("install by hand: {list}"))
        };
        let install = || apt().args(["install", "--yes", "--no-install-recommends"]).args(&missing).quiet();
        // The lists may be there and new enough, and fetching them takes longer than the packages.
        install().or_else(|_| apt().arg("update").quiet().and_then(|()| install()))
    })
}
