//! The program `berth` as a release has it: optimised, without a path of the machine that it was built on, and packed
//! so that two builds of a commit give the same bytes. Owns whether this machine can build for an architecture.

use super::{Arch, Source};
use crate::cache::Cache;
use crate::compile;
use crate::run::{Run, step};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What separates flags in cargo's variable for those that may have spaces in them.
const SEPARATOR: &str = "\u{1f}";

/// Rust's name of an architecture.
pub fn triple(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "x86_64-unknown-linux-gnu",
        Arch::Arm64 => "aarch64-unknown-linux-gnu",
    }
}

/// The C compiler that makes and links programs of another architecture, with the Debian package that brings it.
fn cross_compiler(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        Arch::Amd64 => ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu libc6-dev-amd64-cross"),
        Arch::Arm64 => ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
    }
}

/// Builds the programs of these packages; returns the folder that they lie in. An error says what this machine lacks.
pub fn build(cache: &Cache, source: &Source, arch: Arch, packages: &[&str]) -> Result<PathBuf> {
    let triple = triple(arch);
    let rust = Rust::installed()?;
    ensure!(
        rust.targets.iter().any(|target| target == triple),
        "Rust's target {triple} is not installed: `rustup target add {triple}`"
    );
    let foreign = Arch::native() != Some(arch);
    let (compiler, package) = cross_compiler(arch);
    ensure!(
        !foreign || Run::new(compiler).arg("--version").succeeds(),
        "there is no {compiler} to link for {triple}: on Debian `apt-get install {package}`"
    );
    let flags = remappings(&rust.home, &compile::root(), cache).join(SEPARATOR);
    let mut cargo = compile::cargo(cache)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("CARGO_INCREMENTAL", "0")
        .env("SOURCE_DATE_EPOCH", source.epoch.to_string())
        .without_env("RUSTFLAGS");
    if foreign {
        let name = triple.to_uppercase().replace('-', "_");
        cargo = cargo.env(&format!("CARGO_TARGET_{name}_LINKER"), compiler);
    }
    // Those that are named together are built with the same features, and share what they are made of.
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    step(&format!("release: the binary for {}", arch.name()), || {
        cargo
            // Its target is named even where it is this machine's: build scripts then do without the flags.
            // By itself: beside the simulation tokio would come with its test features.
            .args(["build", "--quiet", "--locked", "--release", "--bins", "--target", triple])
            .args(packages)
            .log(cache.logs().join("release.log"))
            .quiet()
    })?;
    Ok(cache.target().join(triple).join("release"))
}

/// What Rust's own tools say of themselves.
struct Rust {
    /// The folder with cargo's registry.
    home: PathBuf,
    targets: Vec<String>,
}

impl Rust {
    fn installed() -> Result<Self> {
        let sysroot = Run::new("rustc").args(["--print", "sysroot"]).output()?;
        // A target is a folder with a standard library, whoever has installed it.
        let folder = Path::new(sysroot.trim()).join("lib").join("rustlib");
        let mut targets = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            if entry.path().join("lib").is_dir() {
                targets.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
        Ok(Self { home: home.context("neither CARGO_HOME nor HOME is set")?, targets })
    }
}

/// Names for the folders whose paths would otherwise stand in the program, for its messages of panics.
fn remappings(home: &Path, root: &Path, cache: &Cache) -> Vec<String> {
    // The last one that fits decides, and the folders may lie in one another.
    let mut folders = [(home.to_owned(), "/cargo"), (root.to_owned(), "/berth"), (cache.target(), "/target")];
    folders.sort_by_key(|(folder, _)| folder.as_os_str().len());
    folders.iter().map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display())).collect()
}

/// Packs the program, under its two names, with the licence.
pub fn archive(program: &Path, source: &Source, arch: Arch, out: &Path) -> Result<PathBuf> {
    let stem = source.stem("berth", arch);
    let archive = out.join(format!("{stem}.tar.gz"));
    let scratch = out.join(format!(".{stem}"));
    let folder = scratch.join(&stem);
    fs::create_dir_all(&folder)?;
    let files = [(program.to_owned(), "berth", 0o755), (compile::root().join("LICENSE"), "LICENSE", 0o644)];
    for (from, name, mode) in files {
        let to = folder.join(name);
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
    }
    symlink("berth", folder.join("kubectl-berth"))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    Run::new("tar")
        .env("LC_ALL", "C")
        .args(["--sort=name", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner"])
        .args([&format!("--mtime=@{}", source.epoch), "--use-compress-program=gzip -9n", "-cf"])
        .arg(&archive)
        .arg("-C")
        .arg(&scratch)
        .arg(&stem)
        .quiet()?;
    fs::remove_dir_all(&scratch)?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::super::source::example;
    use super::*;

    #[test]
    fn two_archives_of_the_same_program_are_alike_whenever_and_by_whomever_they_are_made() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("berth-binary-{}", std::process::id()));
        let mut archives = Vec::new();
        for (turn, mode) in [("a", 0o700), ("b", 0o755)] {
            let out = folder.join(turn);
            fs::create_dir_all(&out)?;
            let program = out.join("program");
            fs::write(&program, "program")?;
            fs::set_permissions(&program, fs::Permissions::from_mode(mode))?;
            Run::new("touch")
                .args(["-d", if turn == "a" { "2001-01-01" } else { "2002-02-02" }])
                .arg(&program)
                .quiet()?;
            let archive = archive(&program, &example(), Arch::Amd64, &out)?;
            let listed = Run::new("tar").arg("-tzf").arg(&archive).output()?;
            let stem = "berth-1.2.3-linux-amd64";
            let names = [
                format!("{stem}/"),
                format!("{stem}/LICENSE"),
                format!("{stem}/berth"),
                format!("{stem}/kubectl-berth"),
            ];
            assert_eq!(listed.lines().collect::<Vec<_>>(), names);
            let long = Run::new("tar").arg("-tvzf").arg(&archive).output()?;
            assert_eq!(long.lines().filter(|line| line.starts_with("-rwxr-xr-x 0/0 ")).count(), 1, "{long}");
            archives.push(fs::read(archive)?);
        }
        assert!(archives[0] == archives[1]);
        Ok(fs::remove_dir_all(folder)?)
    }
}
