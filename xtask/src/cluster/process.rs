//! The cluster's processes: started so that they outlive the run, found again, and ended.
//!
//! Nothing is written down about them. Each carries marks in its environment (whose cluster it is, which part,
//! and how it was started), so what is found is what runs, and a reused pid is never taken for one of ours.

use super::layout::{Layout, MARK, MARK_COMPONENT, MARK_SPEC};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The search path of the cluster's processes.
const DAEMON_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One process of the cluster.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its process id on this machine.
    pub pid: i32,
    /// The part of the cluster that it is.
    pub component: String,
    /// A fingerprint of how it was started.
    pub spec: String,
    /// The program that runs.
    pub program: PathBuf,
    /// The state folder of the cluster that it belongs to.
    pub state: PathBuf,
    /// When it was started, in ticks since the machine was: with the pid, this names one process for good.
    started: u64,
}

impl Process {
    /// Whether the program's file has this name: a part's own helpers carry its marks too.
    pub fn runs(&self, program: &str) -> bool {
        let file = self.program.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        file.strip_suffix(" (deleted)").unwrap_or(&file) == program
    }
}

/// How a part of the cluster is started.
pub struct Daemon {
    component: String,
    program: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    inputs: Vec<String>,
    ports: Vec<u16>,
    through: Vec<String>,
}

impl Daemon {
    /// A part by its name and program.
    pub fn new(component: &str, program: impl Into<PathBuf>) -> Self {
        Self {
            component: component.to_owned(),
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            inputs: Vec::new(),
            ports: Vec::new(),
            through: Vec::new(),
        }
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. Nothing else is inherited.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Names a file that the program reads at start: a change of its content restarts the program.
    pub fn input(mut self, path: impl Into<String>) -> Self {
        self.inputs.push(path.into());
        self
    }

    /// Names a port of this machine that the program listens on.
    pub fn port(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// Starts the program by way of another command, which these words begin.
    pub fn through(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.through.extend(words.into_iter().map(Into::into));
        self
    }

    /// Starts the program in the namespaces of the process with this pid.
    pub fn inside(self, pid: i32) -> Self {
        let target = pid.to_string();
        self.through(["nsenter", "--target", &target, "--mount", "--pid", "--net", "--"])
    }

    fn spec(&self) -> Result<String> {
        let mut hasher = DefaultHasher::new();
        (&self.program, &self.args, &self.env, &self.through).hash(&mut hasher);
        for path in &self.inputs {
            fs::read(path).with_context(|| format!("cannot read {path}"))?.hash(&mut hasher);
        }
        Ok(format!("{:016x}", hasher.finish()))
    }

    /// Makes sure that the program runs as described: starts it, or restarts it when it runs otherwise.
    pub fn ensure(self, layout: &Layout) -> Result<()> {
        let spec = self.spec()?;
        let name = self.program.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let (right, wrong): (Vec<_>, Vec<_>) = find(layout)?
            .into_iter()
            .filter(|p| p.component == self.component)
            .partition(|p| p.spec == spec && p.runs(&name));
        if right.len() == 1 {
            return Ok(());
        }
        end(right.iter().chain(wrong.iter().filter(|p| p.runs(&name))), Duration::from_secs(10))?;
        for port in &self.ports {
            port_is_free(*port, &self.component)?;
        }
        self.start(layout, &spec)
    }

    fn start(&self, layout: &Layout, spec: &str) -> Result<()> {
        let log = layout.log(&self.component);
        if let Some(parent) = log.parent() {
            fs::create_dir_all(parent)?;
        }
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        // A session of its own: the shell's hang-up and interrupt do not reach it.
        let mut command = Command::new("setsid");
        command
            .args(&self.through)
            .arg(&self.program)
            .args(&self.args)
            .env_clear()
            .env("PATH", DAEMON_PATH)
            .envs(&self.env)
            .env(MARK, layout.state())
            .env(MARK_COMPONENT, &self.component)
            .env(MARK_SPEC, spec)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        command.spawn().with_context(|| format!("cannot start {}", self.component))?;
        Ok(())
    }
}

/// Every process that carries this cluster's mark.
pub fn find(layout: &Layout) -> Result<Vec<Process>> {
    Ok(find_all()?.into_iter().filter(|p| p.state == layout.state()).collect())
}

/// Every process that carries any cluster's mark.
pub fn find_all() -> Result<Vec<Process>> {
    let own = rustix::process::getpid().as_raw_pid();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        if pid == own {
            continue;
        }
        if let Some(process) = read(pid) {
            found.push(process);
        }
    }
    Ok(found)
}

fn read(pid: i32) -> Option<Process> {
    let mut environment = Vec::new();
    fs::File::open(format!("/proc/{pid}/environ")).ok()?.read_to_end(&mut environment).ok()?;
    let mut state = None;
    let (mut component, mut spec) = (String::new(), String::new());
    for variable in environment.split(|b| *b == 0) {
        let Some(at) = variable.iter().position(|b| *b == b'=') else {
            continue;
        };
        let (name, value) = (&variable[..at], &variable[at + 1..]);
        if name == MARK.as_bytes() {
            state = Some(PathBuf::from(OsStr::from_bytes(value)));
        } else if name == MARK_COMPONENT.as_bytes() {
            component = String::from_utf8_lossy(value).into_owned();
        } else if name == MARK_SPEC.as_bytes() {
            spec = String::from_utf8_lossy(value).into_owned();
        }
    }
    let state = state?;
    // A process without a program has ended, and at most waits for its parent to notice.
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let (_, started) = state_and_start(pid)?;
    Some(Process { pid, component, spec, program, state, started })
}

/// A process's state letter, and when it was started in ticks.
pub fn state_and_start(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The process of one part of the cluster, by the name of its program.
pub fn of(layout: &Layout, component: &str, program: &str) -> Result<Option<Process>> {
    Ok(find(layout)?.into_iter().find(|p| p.component == component && p.runs(program)))
}

/// An error when a part of the cluster has ended, with the last of what it said.
pub fn must_run(layout: &Layout, component: &str, program: &str) -> Result<()> {
    if of(layout, component, program)?.is_some() {
        return Ok(());
    }
    let log = layout.log(component);
    let text = fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(12)..].join("\n  ");
    bail!("{component} has ended; all of its output: {}\n  {tail}", log.display())
}

/// Ends processes at once, and waits until they are gone. One that only waits for its parent to notice is gone.
pub fn end<'a>(processes: impl IntoIterator<Item = &'a Process>, limit: Duration) -> Result<()> {
    let processes: Vec<&Process> = processes.into_iter().collect();
    let begun = Instant::now();
    loop {
        let mut left = Vec::new();
        for process in &processes {
            // Looked at before each signal: the pid may have become another's meanwhile.
            let alive = |(state, started)| !matches!(state, 'Z' | 'X') && started == process.started;
            if state_and_start(process.pid).is_some_and(alive) {
                if let Some(pid) = Pid::from_raw(process.pid) {
                    let _ = kill_process(pid, Signal::KILL);
                }
                left.push(*process);
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > limit {
            let names: Vec<_> = left.iter().map(|p| format!("{} (pid {})", p.component, p.pid)).collect();
            bail!("these processes do not end: {}", names.join(", "));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// When the process was started, in seconds before now.
pub fn age(pid: i32) -> Option<u64> {
    let (_, ticks) = state_and_start(pid)?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    // The kernel counts in USER_HZ, which is 100 on every Linux that Rust runs on.
    Some((uptime as u64).saturating_sub(ticks / 100))
}

fn port_is_free(port: u16, component: &str) -> Result<()> {
    // A process that was just ended may hold its port for a moment longer.
    let mut taken = None;
    for _ in 0..60 {
        taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).err();
        if taken.is_none() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let Some(error) = taken else { return Ok(()) };
    let holder = crate::run::Run::new("ss").args(["-Hltnp", &format!("sport = :{port}")]).output().unwrap_or_default();
    bail!(
        "{component} needs port {port} of 127.0.0.1, which is taken ({error}): {}\nend that program, or move all \
         ports with {}=1000",
        holder.trim(),
        super::layout::PORT_OFFSET
    )
}
