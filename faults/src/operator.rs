//! Operators as processes of the built binary: started, killed, stopped and continued by their own pids, and started again
//! when they have gone, as a kubelet does. Owns the processes; what befalls their requests is `proxy`'s.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

/// How often it is looked whether a process has gone.
const GLANCE: Duration = Duration::from_millis(20);
/// How long after that the next one is started.
const RESTART: Duration = Duration::from_millis(200);

/// What a process of an operator is started with.
pub struct Start {
    /// The binary.
    pub program: PathBuf,
    /// The namespace of its lease.
    pub lease: String,
    /// The namespace that it works in.
    pub namespace: String,
    /// The folder of its kubeconfig and its log.
    pub folder: PathBuf,
}

/// An operator's place: a process in it is followed by another of the same name.
pub struct Place {
    name: &'static str,
    child: Mutex<Option<Child>>,
    count: AtomicU32,
    closed: AtomicBool,
}

impl Place {
    /// The place of this name, empty.
    pub fn new(name: &'static str) -> Self {
        Self { name, child: Mutex::default(), count: AtomicU32::new(0), closed: AtomicBool::new(false) }
    }

    /// Its name, which is the operator's identity.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Who is in it now: the name, and the how-manieth process.
    pub fn who(&self) -> String {
        format!("{}#{}", self.name, self.count.load(Ordering::SeqCst))
    }

    /// How many processes there were.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// Keeps an operator running that talks to this port, until the place is closed.
    ///
    /// # Errors
    /// When none can be started.
    pub async fn run(&self, command: &Start, config: &str) -> Result<()> {
        let kubeconfig = command.folder.join(format!("{}.kubeconfig", self.name));
        // For nobody else's eyes, though it holds no key.
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&kubeconfig)
            .context("no file")?;
        file.write_all(config.as_bytes())?;
        let log = File::create(command.folder.join(format!("{}.log", self.name)))?;
        while !self.closed.load(Ordering::SeqCst) {
            self.count.fetch_add(1, Ordering::SeqCst);
            let child = start(command, self.name, &kubeconfig, &log)?;
            *self.lock() = Some(child);
            while !self.has_gone()? {
                sleep(GLANCE).await;
            }
            sleep(RESTART).await;
        }
        Ok(())
    }

    fn has_gone(&self) -> Result<bool> {
        let mut child = self.lock();
        let gone = match child.as_mut() {
            Some(child) => child.try_wait()?.is_some(),
            None => true,
        };
        if gone {
            *child = None;
        }
        Ok(gone)
    }

    /// Kills the process that is there.
    pub fn kill(&self) {
        if let Some(child) = self.lock().as_mut() {
            let _ = child.kill();
        }
    }

    /// Tells the process that is there to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops the process that is there.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// The process that was stopped goes on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // It is not reaped while this is held, so its pid is no other's.
        let child = self.lock();
        if let Some(pid) = child.as_ref().and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?)) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Nobody is in it any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        if let Some(mut child) = self.lock().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.close();
    }
}

fn start(command: &Start, name: &str, kubeconfig: &Path, log: &File) -> Result<Child> {
    // The kernel ends it with this program, however that comes about.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(&command.program)
        .args(["operator", "--namespace", &command.lease, "--watch-namespace", &command.namespace, "--identity", name])
        .args(["--health-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"])
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot start {}", command.program.display()))
}
