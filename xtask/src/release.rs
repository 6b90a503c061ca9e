//! `cargo xtask release`: everything that a release hands out, made from one commit, with checksums and bills of
//! materials. Owns which artefacts there are, their names, and the table of what was made and what was not.
//!
//! Nothing is left out in silence: what this machine cannot make is a line of the table with the reason, and the exit
//! code says whether all that was asked for is there. Nothing is published or signed: that is for people, with
//! docs/releasing.md.

mod binary;
mod sbom;
mod source;

use crate::cache::Cache;
use crate::chart;
use crate::images::{self, Image};
use crate::run::{Run, step};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::Value;
pub use source::Source;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of `cargo xtask release`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask release --out DIR                        all of it, for this machine's architecture
  cargo xtask release --out DIR --arch amd64,arm64     for both; what cannot be made here is told
  cargo xtask release --out DIR --only chart,crds      the parts that need no compiler
  (cd DIR && sha256sum --check SHA256SUMS)             whether the files are the ones that were made

A binary for another architecture needs Rust's target and a cross compiler; images are made for this machine's
architecture alone, since building one runs its programs. The exit code is 0 only where all that was asked for was made.")]
pub struct Args {
    /// The folder to fill; it must be empty or new
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// For which architectures [default: this machine's]
    #[arg(long, value_delimiter = ',', value_name = "ARCH")]
    arch: Vec<Arch>,
    /// Make these parts alone [default: all]
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Where the source is to be had, for the images' and the chart's labels [default: the `repository` of Cargo.toml]
    #[arg(long, value_name = "URL")]
    source: Option<String>,
    /// Go on although the folder has changes that are in no commit; the revision then says so
    #[arg(long)]
    dirty: bool,
}

/// A part of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The program, also as kubectl's plugin
    Binary,
    /// What the program is made of
    Sbom,
    /// The operator's image and the workspaces', each with what it is made of
    Images,
    /// The Helm chart
    Chart,
    /// The CRDs as one file
    Crds,
}

/// A processor architecture, by the name that images give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// x86-64
    Amd64,
    /// AArch64
    Arm64,
}

impl Arch {
    /// The name of images and of Debian.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// This machine's, unless Berth knows it not.
    pub fn native() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::Amd64),
            "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }
}

/// The programs of these packages as a release has them, for this machine and with whatever has changed since the last commit;
/// returns the folder that they lie in.
pub fn programs(cache: &Cache, packages: &[&str]) -> Result<PathBuf> {
    let arch = Arch::native().with_context(|| format!("{} is no architecture of Berth's", std::env::consts::ARCH))?;
    // They are not published: by the time of each commit their C libraries would be compiled anew, and all that is built on them.
    let source = Source { epoch: 0, ..Source::read(None, true)? };
    binary::build(cache, &source, arch, packages)
}

/// One artefact, and the files that it became, or why it was not made.
struct Row {
    artefact: String,
    made: Result<Vec<PathBuf>>,
}

/// Makes what was asked for, and tells.
pub fn main(args: &Args) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let source = Source::read(args.source.clone(), args.dirty)?;
    fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    ensure!(fs::read_dir(&args.out)?.next().is_none(), "{} is not empty: name another folder", args.out.display());
    let out = args.out.canonicalize()?;
    let parts = if args.only.is_empty() { Part::value_variants().to_vec() } else { args.only.clone() };
    let archs = match (args.arch.as_slice(), Arch::native()) {
        ([], Some(native)) => vec![native],
        ([], None) => bail!("{} is no architecture of Berth's: say --arch", std::env::consts::ARCH),
        (named, _) => named.to_vec(),
    };
    let rows = make(&cache, &source, &out, &parts, &archs);
    sums(&out, &rows)?;
    println!("{}", table(&rows, &source, &out));
    Ok(if rows.iter().all(|row| row.made.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn make(cache: &Cache, source: &Source, out: &Path, parts: &[Part], archs: &[Arch]) -> Vec<Row> {
    let wanted = |part: Part| parts.contains(&part);
    let mut rows = Vec::new();
    let mut row = |artefact: String, made: Result<Vec<PathBuf>>| rows.push(Row { artefact, made });
    if wanted(Part::Crds) {
        row("the CRDs".to_owned(), chart::one_file_of_crds(source, out).map(|file| vec![file]));
    }
    if wanted(Part::Chart) {
        let made = step("release: the chart", || chart::package(cache, source, out));
        row("the chart".to_owned(), made.map(|file| vec![file]));
    }
    // Once for all images: what Debian has mended by now belongs into them.
    let natives = archs.iter().any(|arch| Arch::native() == Some(*arch));
    let bases = if wanted(Part::Images) && natives { images::fresh_bases(cache) } else { Ok(()) };
    if let Err(error) = bases {
        row("Debian's base images, made anew".to_owned(), Err(error));
    }
    for &arch in archs {
        let place = format!("linux/{}", arch.name());
        if wanted(Part::Sbom) {
            let made = sbom::of_binary(cache, source, arch).and_then(|bill| {
                sbom::write(&out.join(format!("{}.cdx.json", source.stem("berth", arch))), &bill).map(|file| vec![file])
            });
            row(format!("the binary's SBOM, {place}"), made);
        }
        // An image of the operator has the program in it.
        let program = (wanted(Part::Binary) || wanted(Part::Images))
            .then(|| binary::build(cache, source, arch, &["berth"]).map(|folder| folder.join("berth")));
        if wanted(Part::Binary) {
            let made = match &program {
                Some(Ok(program)) => binary::archive(program, source, arch, out).map(|file| vec![file]),
                Some(Err(error)) => Err(anyhow::anyhow!("{error:#}")),
                None => continue,
            };
            row(format!("the binary, {place}"), made);
        }
        for image in Image::value_variants().iter().filter(|_| wanted(Part::Images)) {
            let made = match &program {
                Some(program) => self::image(cache, source, *image, arch, program, out),
                None => continue,
            };
            row(format!("the image {}, {place}", image.name()), made);
        }
    }
    rows
}

/// An image's archive, and its bill of materials.
fn image(
    cache: &Cache,
    source: &Source,
    image: Image,
    arch: Arch,
    program: &Result<PathBuf>,
    out: &Path,
) -> Result<Vec<PathBuf>> {
    if Arch::native() != Some(arch) {
        bail!("building an image runs its programs: run this on a machine of the architecture {}", arch.name());
    }
    let (program, parts) = match (image, program) {
        (Image::Operator, Ok(program)) => (Some(program.as_path()), Some(sbom::of_binary(cache, source, arch)?)),
        (Image::Operator, Err(error)) => bail!("it has the binary in it: {error:#}"),
        _ => (None, None),
    };
    let name = format!("berth-{}", image.name());
    let stem = source.stem(&name, arch);
    let archive = out.join(format!("{stem}.tar"));
    let labels = source.labels();
    images::release(cache, image, program, &labels, source.epoch, &format!("{name}:{}", source.version), &archive)?;
    let bill = sbom::of_image(&archive, &name, source, arch, parts.as_ref())?;
    Ok(vec![archive, sbom::write(&out.join(format!("{stem}.cdx.json")), &bill)?])
}

/// Writes the checksums of all files that were made, in the format of sha256sum.
fn sums(out: &Path, rows: &[Row]) -> Result<()> {
    let mut names: Vec<String> =
        rows.iter().filter_map(|row| row.made.as_ref().ok()).flatten().filter_map(|path| name_of(path)).collect();
    names.sort();
    let text = if names.is_empty() { String::new() } else { Run::new("sha256sum").dir(out).args(&names).output()? };
    fs::write(out.join("SHA256SUMS"), text).context("cannot write SHA256SUMS")
}

fn name_of(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// What was made and what was not, line by line.
fn table(rows: &[Row], source: &Source, out: &Path) -> String {
    let mut lines = vec![format!("Berth {} from {}, in {}:", source.version, source.revision, out.display())];
    for row in rows {
        let words = match &row.made {
            Ok(files) => files.iter().filter_map(|path| name_of(path)).collect::<Vec<_>>().join(", "),
            Err(error) => format!("NOT MADE: {error:#}"),
        };
        lines.push(format!("  {:<34} {words}", row.artefact));
    }
    lines.push("  checksums                          SHA256SUMS".to_owned());
    if source.url.is_none() {
        lines.push(
            "Images and chart do not say where their source is: Cargo.toml names no repository; --source does.".into(),
        );
    }
    let missing = rows.iter().filter(|row| row.made.is_err()).count();
    lines.push(format!("{} made, {missing} not made", rows.len() - missing));
    lines.join("\n")
}

/// Makes the quick parts twice, and compares: what a change must pass.
pub fn check(cache: &Cache) -> Result<()> {
    let source = Source::read(None, true)?;
    let parts = [Part::Sbom, Part::Chart, Part::Crds];
    let archs = Arch::value_variants();
    let folder = std::env::temp_dir().join(format!("berth-release-{}", std::process::id()));
    let result = step("release: what is quick, made twice", || {
        let mut sums = Vec::new();
        for turn in ["first", "second"] {
            // Archives count time in seconds: the turns must not fall into the same one.
            std::thread::sleep(std::time::Duration::from_millis(if sums.is_empty() { 0 } else { 1100 }));
            let out = folder.join(turn);
            fs::create_dir_all(&out)?;
            let rows = make(cache, &source, &out, &parts, archs);
            for row in &rows {
                if let Err(error) = &row.made {
                    bail!("{}: {error:#}", row.artefact);
                }
            }
            self::sums(&out, &rows)?;
            Run::new("sha256sum").dir(&out).args(["--check", "--strict", "--quiet", "SHA256SUMS"]).quiet()?;
            sums.push(fs::read_to_string(out.join("SHA256SUMS"))?);
        }
        ensure!(sums[0] == sums[1], "the same commit became different files:\n{}\n{}", sums[0], sums[1]);
        let bill =
            fs::read_to_string(folder.join("first").join(format!("{}.cdx.json", source.stem("berth", Arch::Amd64))))?;
        // Both turns were made in the same folder, which must not stand in it.
        ensure!(
            bill.contains(&format!("path+file:///berth#berth@{}", source.version)),
            "a bill has a path of this machine"
        );
        sbom::names(&serde_json::from_str::<Value>(&bill)?, &["kube", "tokio", "rustls"])
    });
    let _ = fs::remove_dir_all(&folder);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_made_stands_in_the_table_with_the_reason() {
        let rows = [
            Row { artefact: "the chart".into(), made: Ok(vec!["/out/berth-1.2.3.tgz".into()]) },
            Row { artefact: "the binary, linux/arm64".into(), made: Err(anyhow::anyhow!("no linker")) },
        ];
        let text = table(&rows, &source::example(), Path::new("/out"));
        assert!(text.contains("the chart                          berth-1.2.3.tgz\n"), "{text}");
        assert!(text.contains("the binary, linux/arm64            NOT MADE: no linker\n"), "{text}");
        assert!(text.ends_with("1 made, 1 not made"), "{text}");
        assert!(text.contains("--source"), "{text}");
    }
}
