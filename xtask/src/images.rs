//! `cargo xtask images`: container images built from `images/` without a registry and without Docker.
//!
//! Owns which images there are, their names, and when one must be built again. Does not own how Debian's base is made
//! (`base`), where the machine's Debian mirrors are (`sources`), buildah and its storage (`store`), or what an archive
//! looks like inside (`archive`).
//!
//! An image is known by a digest over everything that goes into it: its folder, the base's recipe, the operator's
//! binary. The digest is its tag, so that a changed image is a changed pod; the tag `dev` beside it always means the
//! newest, for files that people write by hand. Packages are as new as the build: `--fresh` builds from the start.

mod archive;
mod base;
mod sources;
mod store;

use crate::cache::{Cache, Lock};
use crate::cluster::{self, Layout};
use crate::compile;
use crate::run::{Run, step};
use anyhow::{Context, Result, bail};
use base::Base;
use clap::{Subcommand, ValueEnum};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use store::Store;

/// Options of `cargo xtask images`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask images build               all images, as archives in Docker's format
  cargo xtask images load desktop        one of them, built if need be, onto the cluster's real node
  cargo xtask images clean               the archives and the build storage gone

Building needs root and Debian. Elsewhere build with Docker: images/README.md says how.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build images, unless they are built; prints each one's reference and archive
    Build {
        /// Which images [default: all]
        names: Vec<Image>,
        /// Build from the start, with today's packages
        #[arg(long)]
        fresh: bool,
    },
    /// Bring images to the cluster's real node, and build them first if need be
    Load {
        /// Which images [default: all]
        names: Vec<Image>,
    },
    /// Remove what builds leave in the cache
    #[command(visible_alias = "down")]
    Clean {
        /// Remove the build storage alone: archives stay
        #[arg(long)]
        keep_archives: bool,
    },
}

/// An image of this repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Image {
    /// A Linux desktop over VNC
    Desktop,
    /// JupyterLab over HTTP
    Jupyterlab,
    /// A terminal over SSH
    Ssh,
    /// Berth itself
    Operator,
}

/// A built image.
#[derive(Clone, Debug)]
pub struct Built {
    /// The name by which a pod refers to exactly this content.
    pub reference: String,
    /// The archive, in Docker's format; holds the image under `reference` and under the tag `dev`.
    pub archive: PathBuf,
}

impl Image {
    /// The folder's name under `images/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Jupyterlab => "jupyterlab",
            Self::Ssh => "ssh",
            Self::Operator => "operator",
        }
    }

    /// The name without a tag.
    pub fn repository(self) -> String {
        format!("localhost/berth-{}", self.name())
    }

    /// The name under which the newest build is known: for files that people write by hand.
    pub fn dev_reference(self) -> String {
        format!("{}:dev", self.repository())
    }

    fn base(self) -> Base {
        match self {
            Self::Desktop | Self::Ssh | Self::Operator => Base::Bookworm,
            Self::Jupyterlab => Base::Trixie,
        }
    }

    fn folder(self) -> PathBuf {
        compile::root().join("images").join(self.name())
    }
}

/// Runs the subcommand.
pub fn main(args: Args) -> Result<ExitCode> {
    let cache = Cache::open()?;
    match args.command {
        Command::Build { names, fresh } => {
            for image in all_unless(names) {
                let built = if fresh { rebuild(&cache, image)? } else { ensure(&cache, image)? };
                println!("{} {}", built.reference, built.archive.display());
            }
        }
        Command::Load { names } => {
            for image in all_unless(names) {
                let built = ensure(&cache, image)?;
                // Only now: a build is long, and others may use the cluster meanwhile.
                let lock = cache.lock("images load")?;
                load(&cache, &lock, &built)?;
                println!("{}", built.reference);
            }
        }
        Command::Clean { keep_archives } => store::clean(&cache, keep_archives)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds an image unless it is built, and returns where it is. Waits while another process builds.
pub fn ensure(cache: &Cache, image: Image) -> Result<Built> {
    make(cache, image, false)
}

/// Builds the operator's image around this program, unless it is built.
pub fn of_program(cache: &Cache, program: &Path) -> Result<Built> {
    make_of(cache, Image::Operator, Some(program), false)
}

/// Brings a built image to the cluster's real node, unless it is there. The lock keeps the cluster from going meanwhile.
pub fn load(cache: &Cache, _lock: &Lock, built: &Built) -> Result<()> {
    cluster::load_image(&Layout::new(cache)?, &built.archive)
}

/// Makes Debian's base images anew, with today's packages.
pub fn fresh_bases(cache: &Cache) -> Result<()> {
    let _lock = store::lock(cache)?;
    let store = Store::open(cache)?;
    [Base::Bookworm, Base::Trixie].into_iter().try_for_each(|base| base::ensure(&store, cache, base, true))
}

/// Builds an image for a release, from the start, with these labels and this program, and no other time than the commit's.
/// The archive has it under one name; what other builds have made stays as it is.
pub fn release(
    cache: &Cache,
    image: Image,
    binary: Option<&Path>,
    labels: &[(String, String)],
    epoch: u64,
    name: &str,
    archive: &Path,
) -> Result<()> {
    let _lock = store::lock(cache)?;
    let context = store::work(cache).join(format!("release-{}", image.name()));
    copy_context(image, binary, &context)?;
    let store = Store::open(cache)?;
    base::ensure(&store, cache, image.base(), false)?;
    // In full, since all of an image's names get into its archive: `docker load` then shows `name` and no other.
    let full = format!("docker.io/library/{name}");
    step(&format!("release: the image {}", image.name()), || {
        let labels = labels.iter().map(|(key, value)| format!("--label={key}={value}"));
        let more: Vec<String> = labels.chain([format!("--timestamp={epoch}")]).collect();
        store
            .build(&context, &full, true, &more)
            .log(cache.logs().join(format!("release-{}.log", image.name())))
            .advice("packages come from this machine's Debian mirrors: does `apt-get update` work?")
            .quiet()?;
        store.push(&full, archive)?;
        store.remove(&full)?;
        store.prune();
        Ok(())
    })
}

fn rebuild(cache: &Cache, image: Image) -> Result<Built> {
    make(cache, image, true)
}

fn all_unless(names: Vec<Image>) -> Vec<Image> {
    if names.is_empty() { Image::value_variants().to_vec() } else { names }
}

fn make(cache: &Cache, image: Image, fresh: bool) -> Result<Built> {
    let binary = match image {
        Image::Operator => Some(binary(cache)?),
        Image::Desktop | Image::Jupyterlab | Image::Ssh => None,
    };
    make_of(cache, image, binary.as_deref(), fresh)
}

fn make_of(cache: &Cache, image: Image, binary: Option<&Path>, fresh: bool) -> Result<Built> {
    // What a build reads is copied first: an edit meanwhile cannot get into an image that is known by older content.
    let _lock = store::lock(cache)?;
    let context = store::work(cache).join(image.name());
    copy_context(image, binary, &context)?;
    let tag = tag(&context, &image.base().recipe()?)?;
    let built = Built {
        reference: format!("{}:{tag}", image.repository()),
        archive: store::archives(cache).join(format!("berth-{}-{tag}.tar", image.name())),
    };
    if built.archive.exists() && !fresh {
        return Ok(built);
    }
    let store = Store::open(cache)?;
    base::ensure(&store, cache, image.base(), fresh)?;
    step(&format!("image {}: building", image.name()), || {
        store
            .build(&context, &built.reference, fresh, &[])
            .log(cache.logs().join(format!("image-{}.log", image.name())))
            .advice("packages come from this machine's Debian mirrors: does `apt-get update` work?")
            .quiet()?;
        store.prune();
        Ok(())
    })?;
    step(&format!("image {}: writing its archive", image.name()), || {
        store.export(&built.reference, &image.dev_reference(), &built.archive)?;
        store::remove_older(&built.archive, &format!("berth-{}-", image.name()))
    })?;
    Ok(built)
}

/// Builds the operator's binary the way the tests and the demo do, so that nothing is compiled twice.
fn binary(cache: &Cache) -> Result<PathBuf> {
    step("image operator: building the binary", || compile::operator(cache, "image-operator.log"))
}

/// Copies an image's folder with the modes that Git knows and no others: a private umask would otherwise make files
/// that the image's user cannot read.
fn copy_context(image: Image, binary: Option<&Path>, context: &Path) -> Result<()> {
    if context.exists() {
        fs::remove_dir_all(context)?;
    }
    let source = image.folder();
    for file in files(&source)? {
        let to = context.join(&file);
        copy(&source.join(&file), &to)?;
    }
    if let Some(binary) = binary {
        copy(binary, &context.join("berth"))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for folder in to.parent().into_iter().flat_map(Path::ancestors).collect::<Vec<_>>().into_iter().rev() {
        if !folder.exists() {
            fs::create_dir(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644 | executable(from)?))?;
    Ok(())
}

fn executable(file: &Path) -> Result<u32> {
    Ok(if file.metadata()?.permissions().mode() & 0o100 == 0 { 0 } else { 0o111 })
}

/// All files below a folder, by their paths inside of it, in a fixed order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inside) = folders.pop() {
        let path = folder.join(&inside);
        for entry in fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))? {
            let entry = entry?;
            let name = inside.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(name);
            } else if kind.is_file() {
                found.push(name);
            } else {
                bail!("{} is neither a file nor a folder", entry.path().display());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A short digest over a build's files, their modes and the base's recipe.
fn tag(context: &Path, recipe: &str) -> Result<String> {
    let names = files(context)?;
    let sums = Run::new("sha256sum").dir(context).args(&names).output()?;
    let mut text = format!("{recipe}\n{sums}");
    for name in &names {
        text.push_str(&format!("{} {:o}\n", name.display(), executable(&context.join(name))?));
    }
    short_digest(&text)
}

/// The first twelve digits of a text's digest: short enough to read, long enough never to meet another.
pub fn short_digest(text: &str) -> Result<String> {
    let digest = Run::new("sha256sum").input(text).output()?;
    Ok(digest.chars().take(12).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> Result<PathBuf> {
        let path = std::env::temp_dir().join(format!("berth-images-{}-{name}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    #[test]
    fn content_mode_name_and_recipe_make_the_tag() -> Result<()> {
        let folder = scratch("tag")?;
        fs::create_dir(folder.join("sub"))?;
        fs::write(folder.join("Dockerfile"), "FROM x")?;
        fs::write(folder.join("sub/run"), "#!/bin/sh")?;
        let first = tag(&folder, "recipe")?;
        assert_eq!(first.len(), 12);
        assert_eq!(first, tag(&folder, "recipe")?);
        assert_ne!(first, tag(&folder, "another recipe")?);
        fs::set_permissions(folder.join("sub/run"), fs::Permissions::from_mode(0o755))?;
        let second = tag(&folder, "recipe")?;
        assert_ne!(first, second);
        fs::rename(folder.join("sub/run"), folder.join("sub/start"))?;
        assert_ne!(second, tag(&folder, "recipe")?);
        Ok(fs::remove_dir_all(folder)?)
    }

    #[test]
    fn a_copied_file_can_be_read_by_all() -> Result<()> {
        let folder = scratch("copy")?;
        let from = folder.join("from");
        fs::write(&from, "text")?;
        fs::set_permissions(&from, fs::Permissions::from_mode(0o700))?;
        let to = folder.join("a/b/to");
        copy(&from, &to)?;
        assert_eq!(to.metadata()?.permissions().mode() & 0o777, 0o755);
        assert_eq!(folder.join("a").metadata()?.permissions().mode() & 0o777, 0o755);
        Ok(fs::remove_dir_all(folder)?)
    }

    #[test]
    fn every_workspace_image_says_in_the_same_way_that_it_is_busy() -> Result<()> {
        let command = |image: Image| fs::read_to_string(image.folder().join("rootfs/usr/local/bin/berth-busy"));
        let ssh = command(Image::Ssh)?;
        assert_eq!(command(Image::Desktop)?, ssh);
        assert_eq!(command(Image::Jupyterlab)?, ssh);
        Ok(())
    }

    #[test]
    fn every_image_has_a_dockerfile_that_names_its_base() -> Result<()> {
        for image in Image::value_variants() {
            let file = image.folder().join("Dockerfile");
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let base = format!("FROM {}", image.base().short_name());
            assert!(text.lines().any(|line| line.starts_with(&base)), "{} has no `{base}`", file.display());
        }
        Ok(())
    }
}
