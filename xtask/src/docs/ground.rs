//! What a page stands on while it is run: a namespace, a home, a kubeconfig and a working folder of its own, and one shell
//! for all of its commands. Owns their making and their end; what is run is `script`'s.

use super::script::{Command, Script, word};
use crate::cluster::Layout;
use crate::run::Run;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// What the namespaces of pages begin with.
const PREFIX: &str = "berth-docs-";
/// How long a page may take, in seconds.
const LIMIT: &str = "240";
/// The repository's folders that pages name files of.
const FOLDERS: [&str; 5] = ["charts", "crds", "examples", "images", "testbed"];

/// The shell's own part. Each command is a file that the shell reads, so that variables, folders and what runs behind it
/// stay. Two words are for markers: `afterwards` takes away at the page's end what is not in its namespace, `found` is a grep
/// that may find nothing.
const SHELL: &str = r#"
set -o pipefail
steps=$1
cleanup=:
afterwards() { cleanup="$*; $cleanup"; }
found() { grep "$@" || [ $? = 1 ]; }
settle() { local running; running=$(jobs -p); [ -z "$running" ] || { kill $running; wait; } 2>/dev/null; }
trap 'settle; eval "$cleanup" >"$steps/afterwards" 2>&1' EXIT
failed() { echo "$2" >"$steps/$1.code"; exit 1; }
step() {
  . "$steps/$1.sh" >"$steps/$1.out" 2>&1 </dev/null
  set -- "$1" "$2" $?
  [ "$2" = "$3" ] || failed "$1" "$3"
  echo "$3" >"$steps/$1.code"
}
forwarded() {
  local _
  for _ in $(seq 150); do grep -q 'Forwarding from' "$steps/$1.out" && return; sleep 0.1; done
  echo 'the port is not forwarded' >>"$steps/$1.out"
  failed "$1" 125
}
"#;

/// What became of a command.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Its exit code; none where it was not reached, or did not end.
    pub code: Option<i32>,
    /// What it printed, in the page's own words.
    pub printed: String,
}

/// What all pages share.
pub struct Shared {
    /// The cluster.
    pub layout: Layout,
    /// A folder of programs for PATH: `berth`, `kubectl-berth`, `promtool`.
    pub bin: PathBuf,
    /// The repository.
    pub root: PathBuf,
    /// Where Go keeps what it fetched and built, which is not in a page's home.
    pub go: Vec<(String, String)>,
}

impl Shared {
    /// Removes what earlier runs left, and waits until it is gone.
    pub fn sweep(&self) -> Result<()> {
        let all = self.layout.kubectl().args(["get", "namespaces", "-o", "name"]).output()?;
        let ours: Vec<&str> = all.lines().filter(|it| it.starts_with(&format!("namespace/{PREFIX}"))).collect();
        if !ours.is_empty() {
            self.layout.kubectl().args(["delete", "--ignore-not-found", "--timeout=120s"]).args(ours).quiet()?;
        }
        let folder = self.layout.at("docs");
        if Path::new(&folder).exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {folder}"))?;
        }
        Ok(())
    }
}

/// The namespace of a page.
pub fn namespace(page: &str) -> String {
    let name = page.trim_end_matches(".md").to_lowercase();
    let letters = name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
    format!("{PREFIX}{}", letters.collect::<String>())
}

/// Runs a page's commands, and takes away what they made.
pub fn run(shared: &Shared, namespace: &str, script: &Script) -> Result<Vec<Outcome>> {
    let folder = PathBuf::from(shared.layout.at("docs")).join(namespace);
    let done = prepare(shared, namespace, &folder).and_then(|()| play(shared, namespace, &folder, script));
    // Its end may take as long as its pods do: `sweep` waits for all of them.
    let gone = shared.layout.kubectl().args(["delete", "namespace", namespace, "--ignore-not-found", "--wait=false"]);
    let gone = gone.quiet();
    let removed = fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()));
    let outcomes = done?;
    gone?;
    removed?;
    Ok(outcomes)
}

fn prepare(shared: &Shared, namespace: &str, folder: &Path) -> Result<()> {
    let (home, work) = (folder.join("home"), folder.join("work"));
    for path in [&home, &work, &folder.join("steps")] {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    Run::new("cp").arg("-r").args(FOLDERS.map(|name| shared.root.join(name))).arg(&work).quiet()?;
    in_namespace(&work.join("examples"), namespace)?;
    fs::copy(shared.layout.admin(), home.join("kubeconfig")).context("cannot copy the kubeconfig")?;
    shared.layout.kubectl().args(["create", "namespace", namespace]).quiet()?;
    let set = ["config", "set-context", "--current"];
    let own = shared.layout.kubectl().env("KUBECONFIG", home.join("kubeconfig"));
    own.args(set).arg(format!("--namespace={namespace}")).quiet()
}

/// The examples' namespace is the page's.
fn in_namespace(folder: &Path, namespace: &str) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            in_namespace(&path, namespace)?;
        } else {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            fs::write(&path, word(&text, "demo", namespace))?;
        }
    }
    Ok(())
}

fn play(shared: &Shared, namespace: &str, folder: &Path, script: &Script) -> Result<Vec<Outcome>> {
    let steps = folder.join("steps");
    let mut text = SHELL.to_owned();
    for (index, command) in script.commands.iter().enumerate() {
        fs::write(steps.join(format!("{index}.sh")), format!("{}\n", command.text))?;
        text.push_str(&lines(index, command));
    }
    fs::write(steps.join("all"), text)?;
    let home = folder.join("home");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let ours = [home.join(".local/bin"), shared.bin.clone(), shared.layout.bin()];
    let path = std::env::join_paths(ours.into_iter().chain(std::env::split_paths(&path)))?;
    let mut shell = shared
        .layout
        .run("setpriv")
        // As the thread ends that waits for it, so does it, and with it all of its group.
        .args(["--pdeathsig", "TERM", "--", "timeout", "--kill-after=10", LIMIT, "bash"])
        .args([&steps.join("all"), &steps])
        .dir(folder.join("work"))
        .env("HOME", &home)
        .env("PATH", path)
        .env("KUBECONFIG", home.join("kubeconfig"))
        .env("KUBECACHEDIR", shared.layout.at("kubectl-cache"));
    for (name, value) in &shared.go {
        shell = shell.env(name, value);
    }
    // Whether it failed, and where, is in the files.
    let whole = shell.quiet();
    let read = |index: usize, what: &str| fs::read_to_string(steps.join(format!("{index}.{what}"))).ok();
    let outcome = |index: usize| Outcome {
        code: read(index, "code").and_then(|code| code.trim().parse().ok()),
        printed: word(&read(index, "out").unwrap_or_default(), namespace, "demo"),
    };
    let outcomes: Vec<Outcome> = (0..script.commands.len()).map(outcome).collect();
    if outcomes.iter().zip(&script.commands).all(|(outcome, command)| outcome.code == Some(command.exits)) {
        whole?;
    }
    Ok(outcomes)
}

/// The lines of the shell's text for one command.
fn lines(index: usize, command: &Command) -> String {
    let mut lines = format!("step {index} {}\n", command.exits);
    if command.text.contains(" port-forward ") && command.text.ends_with('&') {
        lines.push_str(&format!("forwarded {index}\n"));
    }
    if command.last {
        lines.push_str("settle\n");
    }
    lines
}
