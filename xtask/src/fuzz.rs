//! `cargo xtask fuzz`: the fuzz targets, built for libFuzzer by cargo-fuzz, and run from their kept inputs on. Owns what
//! that takes of the machine, and how long each runs; what a target tries is beside the code that it is about.

use crate::cache::Cache;
use crate::compile;
use crate::run::{Run, step};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz --list                 the targets
  cargo xtask fuzz --seconds 5            each for a short while, as `cargo xtask test` does
  cargo xtask fuzz sessions --seconds 600 one for long
  cargo xtask fuzz sessions --keep        what it found worth keeping, into fuzz/corpus/sessions
  cargo xtask fuzz sessions --input FILE  one input again, such as one that failed

An input that fails is left in fuzz/artifacts/TARGET. It needs a nightly toolchain and a C++ compiler; `cargo test --lib
fuzzing` runs the same bodies over what is kept, without either.")]
pub struct Args {
    /// A target [default: all, one after the other]
    target: Option<String>,
    /// How long each is run, the reading of what is kept included
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Bring the corpus to the fewest inputs that reach what all found so far reach, instead of running
    #[arg(long)]
    keep: bool,
    /// Run this input alone
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with = "keep")]
    input: Option<PathBuf>,
    /// Print the targets and stop
    #[arg(long)]
    list: bool,
}

/// The version of cargo-fuzz, built from its package on first use.
const CARGO_FUZZ: &str = "0.13.2";
/// The longest input that is tried: what matters is said in less.
const LONGEST: &str = "4096";

/// The seed of the step of `cargo xtask test`: a change is judged by the same inputs as the one before it. What is new is
/// looked for by hand, with a seed by the clock.
const CHECKED_SEED: u32 = 1;

/// What it builds for.
fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Runs, lists or sifts.
pub fn main(args: &Args) -> Result<ExitCode> {
    let all = targets()?;
    if args.list {
        for target in &all {
            println!("{:<12}{}", target.name, target.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen: Vec<&Target> =
        all.iter().filter(|target| args.target.as_ref().is_none_or(|name| *name == target.name)).collect();
    ensure!(!chosen.is_empty(), "there is no such target; `cargo xtask fuzz --list` names them");
    let cache = Cache::open()?;
    if let Some(missing) = missing() {
        anyhow::bail!("{missing}");
    }
    let fuzzer = Fuzzer::build(&cache)?;
    for target in chosen {
        match &args.input {
            Some(input) => fuzzer.command(target).arg(input).aloud()?,
            None if args.keep => fuzzer.keep(target)?,
            None => fuzzer.run(target, args.seconds, None)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs every target for a short while, each time from what is kept on: what a longer run has found stays apart.
///
/// # Errors
/// When one does not compile, or an input fails.
pub fn check(cache: &Cache, seconds: u32) -> Result<()> {
    let fuzzer = Fuzzer::build(cache)?;
    let fuzzer = Fuzzer { found: fuzzer.found.with_file_name("checked"), ..fuzzer };
    let _ = fs::remove_dir_all(&fuzzer.found);
    targets()?.iter().try_for_each(|target| fuzzer.run(target, seconds, Some(CHECKED_SEED)))
}

/// What this machine lacks for libFuzzer, if anything, and what to do about it.
pub fn missing() -> Option<String> {
    if !nightly("rustc").arg("--version").succeeds() {
        return Some("no nightly toolchain: `rustup toolchain install nightly --profile minimal`".to_owned());
    }
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let found = Run::new(compiler).arg("--version").succeeds();
    (!found).then(|| "no C++ compiler, which libFuzzer is built by: `apt-get install g++`".to_owned())
}

/// A program of the nightly toolchain, as rustup finds it, called as by hand.
fn nightly(program: impl AsRef<std::ffi::OsStr>) -> Run {
    let run = compile::as_by_hand(Run::new(program)).env("RUSTUP_TOOLCHAIN", "nightly");
    ["CARGO", "RUSTC", "RUSTDOC"].iter().fold(run, |run, name| run.without_env(name))
}

/// One target.
struct Target {
    name: String,
    about: String,
}

/// The entries in `fuzz/fuzz_targets`, whose first line says what each is about.
fn targets() -> Result<Vec<Target>> {
    let folder = folder().join("fuzz_targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let about = text.lines().next().unwrap_or_default().trim_start_matches("//! ").trim_end_matches('.');
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        targets.push(Target { name, about: about.to_owned() });
    }
    targets.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(targets)
}

fn folder() -> PathBuf {
    compile::root().join("fuzz")
}

/// The built targets.
struct Fuzzer {
    programs: PathBuf,
    found: PathBuf,
}

impl Fuzzer {
    fn build(cache: &Cache) -> Result<Self> {
        let tool = compile::tool(cache, "cargo-fuzz", CARGO_FUZZ)?;
        // Apart from all else: instrumentation goes into every crate. No sanitizer: there is no unsafe code of ours.
        let target = cache.target().join("fuzz");
        let build =
            nightly(&tool).dir(compile::root()).args(["build", "--sanitizer", "none", "--target-dir"]).arg(&target);
        step("fuzz targets: building", || build.log(cache.logs().join("fuzz-build.log")).quiet())?;
        Ok(Self { programs: target.join(triple()).join("release"), found: target.join("found") })
    }

    fn command(&self, target: &Target) -> Run {
        let artifacts = folder().join("artifacts").join(&target.name);
        // What cannot be made is told by who wants to write there.
        let _ = fs::create_dir_all(&artifacts);
        Run::new(self.programs.join(&target.name))
            .dir(compile::root())
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args([format!("-max_len={LONGEST}"), "-timeout=60".to_owned(), "-rss_limit_mb=2048".to_owned()])
            .advice(format!("again: cargo xtask fuzz {} --input fuzz/artifacts/{0}/FILE", target.name))
    }

    /// The folders of what is kept, and before them the one for what is found.
    fn inputs(&self, target: &Target) -> Result<[PathBuf; 3]> {
        let found = self.found.join(&target.name);
        fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
        Ok([found, folder().join("corpus").join(&target.name), folder().join("seeds").join(&target.name)])
    }

    fn run(&self, target: &Target, seconds: u32, seed: Option<u32>) -> Result<()> {
        let mut run = self.command(target).arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
        if let Some(seed) = seed {
            run = run.arg(format!("-seed={seed}"));
        }
        let words = folder().join("dictionaries").join(&target.name);
        if words.exists() {
            run = run.arg(format!("-dict={}", words.display()));
        }
        let inputs = self.inputs(target)?;
        let kept = count(&inputs[1])? + count(&inputs[2])?;
        let log = self.found.join(format!("{}.log", target.name));
        let _ = fs::remove_file(&log);
        step(&format!("fuzz {}", target.name), || run.args(&inputs).log(&log).quiet())?;
        let tried = executions(&fs::read_to_string(&log)?).context("libFuzzer did not say what it has done")?;
        ensure!(kept > 0 && tried >= kept, "{}: {tried} inputs were tried of {kept} that are kept", target.name);
        eprintln!("  {tried} inputs, {kept} of them kept");
        Ok(())
    }

    /// Writes the kept corpus anew. What counts is which branches are reached, not how often or with what: that would be
    /// several times the files for what a short run finds again.
    fn keep(&self, target: &Target) -> Result<()> {
        let inputs = self.inputs(target)?;
        let sifted = self.found.join(format!("{}.sifted", target.name));
        let _ = fs::remove_dir_all(&sifted);
        fs::create_dir_all(&sifted)?;
        let log = self.found.join(format!("{}.sifted.log", target.name));
        let run = self
            .command(target)
            .args(["-use_counters=0", "-use_cmp=0", "-set_cover_merge=1"])
            .arg(&sifted)
            .args(&inputs);
        step(&format!("fuzz {}: sifting", target.name), || run.log(log).quiet())?;
        let [_, corpus, _] = inputs;
        ensure!(count(&sifted)? > 0, "nothing was left of {}", target.name);
        let _ = fs::remove_dir_all(&corpus);
        fs::create_dir_all(&corpus)?;
        for entry in fs::read_dir(&sifted)? {
            let path = entry?.path();
            fs::copy(&path, corpus.join(path.file_name().unwrap_or_default()))?;
        }
        eprintln!("  {} kept", count(&corpus)?);
        Ok(())
    }
}

fn count(folder: &Path) -> Result<usize> {
    Ok(fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?.count())
}

/// How many inputs libFuzzer has tried, by its own words.
fn executions(log: &str) -> Option<usize> {
    log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_its_entry_its_seeds_and_its_corpus() -> Result<()> {
        let manifest = fs::read_to_string(folder().join("Cargo.toml"))?;
        let all = targets()?;
        assert!(!all.is_empty());
        assert_eq!(manifest.matches("[[bin]]").count(), all.len());
        for Target { name, about } in all {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
            assert!(!about.is_empty() && !about.starts_with('#'), "{name} does not say what it is about");
            assert!(count(&folder().join("seeds").join(&name))? > 0, "{name}");
            assert!(count(&folder().join("corpus").join(&name))? > 0, "{name}");
        }
        Ok(())
    }

    #[test]
    fn what_was_tried_is_read_from_the_end_of_a_log() {
        assert_eq!(executions("INFO: x\nstat::number_of_executed_units: 42\nstat::peak_rss_mb: 1\n"), Some(42));
        assert_eq!(executions("INFO: x\n"), None);
    }
}
