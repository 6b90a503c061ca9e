//! `cargo xtask docs`: every command of every page is run, and what it prints is what the page shows.
//!
//! Owns the order of the pages, what a failure looks like, and the writing of true output into a page. What a page says is
//! `page`, `marker` and `script`; where it is run, `ground`; which outputs are the same, `compare`.

mod compare;
mod ground;
mod marker;
mod page;
mod script;

use crate::cache::Cache;
use crate::cluster::tools::PROMTOOL;
use crate::cluster::{self, Layout, UpArgs};
use crate::compile;
use crate::install;
use crate::run::{Run, step};
use anyhow::{Context, Result, bail, ensure};
use ground::{Outcome, Shared};
use page::Page;
use script::{Script, Shown};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Options of `cargo xtask docs`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask docs                        every page, against the test cluster with Berth installed
  cargo xtask docs docs/kubectl.md        one page
  cargo xtask docs --write                true output in place of what the pages show
  cargo xtask docs --list                 what is not run, and why

Pages that install, upgrade or uninstall Berth are run last; at the end it is installed as `cargo xtask install` does.
CONTRIBUTING.md says how a page says what is not run as it stands.")]
pub struct Args {
    /// Pages, by their paths [default: all]
    pages: Vec<String>,
    /// Write true output into the pages
    #[arg(long)]
    write: bool,
    /// Print what is not run and stop
    #[arg(long)]
    list: bool,
}

/// How many pages are run at once: they mostly wait.
const AT_ONCE: usize = 4;
/// The commands that change the installation.
const CHANGES: [&str; 4] = ["helm install", "helm upgrade", "helm uninstall", "helm rollback"];

/// A page that is run.
struct Job {
    page: Page,
    namespace: String,
    script: Script,
}

impl Job {
    fn of(page: Page) -> Result<Self> {
        let namespace = ground::namespace(&page.path);
        let script = Script::of(&page, &namespace)?;
        Ok(Self { page, namespace, script })
    }

    fn changes_installation(&self) -> bool {
        let changes = |text: &str| CHANGES.iter().any(|it| text.contains(it)) && !text.contains("--dry-run");
        self.script.commands.iter().any(|command| changes(&command.text))
    }

    /// How many commands of the page itself there are.
    fn count(&self) -> usize {
        self.script.commands.iter().filter(|command| !command.hidden).count()
    }
}

/// Runs the subcommand.
pub fn main(args: &Args) -> Result<ExitCode> {
    let jobs = jobs(&args.pages)?;
    if args.list {
        for job in &jobs {
            job.script.not_run.iter().for_each(|(line, why)| println!("{}:{line}: {why}", job.page.path));
        }
        return Ok(ExitCode::SUCCESS);
    }
    check(&Cache::open()?, jobs, args.write)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs all pages, for `cargo xtask test`.
pub fn check_all(cache: &Cache) -> Result<()> {
    check(cache, jobs(&[])?, false)
}

fn jobs(paths: &[String]) -> Result<Vec<Job>> {
    let pages = page::all()?;
    if let Some(unknown) = paths.iter().find(|path| pages.iter().all(|page| page.path != **path)) {
        bail!("there is no page {unknown}");
    }
    let chosen = pages.into_iter().filter(|page| paths.is_empty() || paths.contains(&page.path));
    chosen.map(Job::of).collect()
}

fn check(cache: &Cache, jobs: Vec<Job>, write: bool) -> Result<()> {
    let layout = Layout::new(cache)?;
    install::leader(&layout).context("Berth is to be installed: cargo xtask install")?;
    let shared = shared(cache, layout)?;
    let (last, mut first): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(Job::changes_installation);
    let prepared = if last.is_empty() { None } else { Some(install::prepare(cache)?) };
    // Nobody takes the cluster or Berth away meanwhile, and no second run the namespaces of this one.
    let lock = cache.lock("docs")?;
    step("docs: what an earlier run left is removed", || shared.sweep())?;
    // The long ones first, so that none is waited for alone.
    first.sort_by_key(|job| std::cmp::Reverse(job.count()));
    let mut wrong = together(&shared, &first, write);
    wrong.extend(last.iter().flat_map(|job| one(&shared, job, write)));
    let restored = prepared.map_or(Ok(()), |prepared| {
        cluster::up(cache, &lock, &UpArgs::default())?;
        install::install(cache, &lock, &prepared)
    });
    step("docs: what the pages made is gone", || shared.sweep())?;
    if let Err(error) = restored {
        wrong.push(format!("Berth is not installed as it was: {error:#}"));
    }
    let all = || first.iter().chain(&last);
    let not_run: usize = all().map(|job| job.script.not_run.len()).sum();
    let run: usize = all().map(Job::count).sum();
    eprintln!(
        "docs: {} pages, {run} commands and files run, {not_run} blocks not run (--list says why)",
        all().count()
    );
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

fn shared(cache: &Cache, layout: Layout) -> Result<Shared> {
    let berth = compile::operator(cache, "docs.log")?;
    let bin = PathBuf::from(layout.at("docs-bin"));
    let _ = fs::remove_dir_all(&bin);
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    let programs = [("berth", berth.clone()), ("kubectl-berth", berth), ("promtool", PROMTOOL.ensure(cache)?)];
    for (name, program) in programs {
        symlink(&program, bin.join(name)).with_context(|| format!("cannot link {name}"))?;
    }
    let names = ["GOMODCACHE", "GOCACHE"];
    let said = Run::new("go").arg("env").args(names).output()?;
    let set = names.iter().zip(said.lines()).map(|(name, value)| ((*name).to_owned(), value.to_owned()));
    let own = [("GOTOOLCHAIN", "local"), ("GOFLAGS", "-buildvcs=false"), ("GOWORK", "off")];
    let go = set.chain(own.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect();
    Ok(Shared { layout, bin, root: compile::root(), go })
}

/// Runs pages beside each other; what is wrong with them.
fn together(shared: &Shared, jobs: &[Job], write: bool) -> Vec<String> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(jobs.len()) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = one(shared, job, write);
                    if let Ok(mut wrong) = wrong.lock() {
                        wrong.extend(found);
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap_or_default()
}

/// Runs a page; what is wrong with it.
fn one(shared: &Shared, job: &Job, write: bool) -> Vec<String> {
    if job.script.commands.is_empty() {
        return Vec::new();
    }
    let begun = Instant::now();
    let wrong = ground::run(shared, &job.namespace, &job.script)
        .and_then(|outcomes| judge(shared, job, &outcomes, write))
        .unwrap_or_else(|error| vec![format!("{}: {error:#}", job.page.path)]);
    let end = if wrong.is_empty() { "" } else { ", FAILED" };
    eprintln!("{}: {} run ({:.1} s){end}", job.page.path, job.count(), begun.elapsed().as_secs_f32());
    wrong
}

/// What is wrong with a page that was run.
fn judge(shared: &Shared, job: &Job, outcomes: &[Outcome], write: bool) -> Result<Vec<String>> {
    let path = &job.page.path;
    let failed = job.script.commands.iter().zip(outcomes).find(|(it, outcome)| outcome.code != Some(it.exits));
    if let Some((command, outcome)) = failed {
        let end = outcome.code.map_or("did not end".to_owned(), |code| format!("exited with {code}"));
        return Ok(vec![format!("{path}:{}: {end}\n$ {}\n{}", command.line, command.text, outcome.printed.trim_end())]);
    }
    let printed = |shown: &Shown| -> String {
        let loud = |index: &usize| !job.script.commands[*index].text.ends_with('&');
        shown.commands.clone().filter(loud).map(|index| outcomes[index].printed.as_str()).collect()
    };
    let mut outputs: Vec<(&Shown, String)> = job.script.shown.iter().map(|shown| (shown, printed(shown))).collect();
    let differs = |(shown, printed): &(&Shown, String)| !compare::same(&shown.text, printed);
    if write {
        // All of a page's outputs or none, so that their times agree.
        if outputs.iter().any(differs) {
            rewrite(&shared.root.join(path), &outputs)?;
        }
        return Ok(Vec::new());
    }
    outputs.retain(differs);
    let words = |(shown, printed): &(&Shown, String)| {
        let marked =
            |mark: &str, text: &str| -> String { text.lines().map(|line| format!("{mark}{line}\n")).collect() };
        let (shown_lines, printed_lines) = (marked("- ", &shown.text), marked("+ ", printed));
        format!("{path}:{}: the page (-) shows what is not printed (+)\n{shown_lines}{printed_lines}", shown.line)
    };
    Ok(outputs.iter().map(words).collect())
}

/// Puts what was printed in the place of what is shown.
fn rewrite(path: &Path, outputs: &[(&Shown, String)]) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    fs::write(path, rewritten(&text, outputs)).with_context(|| format!("cannot write {}", path.display()))
}

fn rewritten(text: &str, outputs: &[(&Shown, String)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (shown, printed) in outputs.iter().rev() {
        let indented = |line: &str| format!("{}{}", " ".repeat(shown.indent), line).trim_end().to_owned();
        let new: Vec<String> = printed.trim_end().lines().map(indented).collect();
        lines.splice(shown.line - 1..shown.line - 1 + shown.length, new);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests;
