//! Running other programs, and telling a person what goes on meanwhile.
//!
//! Owns quiet commands with log files, errors that show a command's last words, and progress lines.
//! Everything meant for people goes to standard error: standard output is for what scripts read.

use anyhow::{Context, Result, anyhow, bail};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many of a failing command's last lines an error shows.
const TAIL_LINES: usize = 20;

/// One command: quiet unless it fails.
pub struct Run {
    command: Command,
    shown: String,
    input: Option<Vec<u8>>,
    log: Option<PathBuf>,
    advice: Option<String>,
}

impl Run {
    /// A command by its program.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let name = Path::new(program).file_name().unwrap_or(program);
        Self {
            shown: name.to_string_lossy().into_owned(),
            command: Command::new(program),
            input: None,
            log: None,
            advice: None,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Keeps one of our environment variables from the command.
    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets the working folder.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Gives the command this as its standard input; without it the input is empty.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Appends what the command prints to this file. For commands that print much or take long.
    pub fn log(mut self, log: impl Into<PathBuf>) -> Self {
        self.log = Some(log.into());
        self
    }

    /// What a person should do when the command fails.
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Runs the command; an error when it fails.
    pub fn quiet(self) -> Result<()> {
        self.output().map(drop)
    }

    /// Runs the command with its output where ours goes; an error when it fails.
    pub fn aloud(mut self) -> Result<()> {
        self.command.stdin(Stdio::null());
        let status = self.command.status().map_err(|e| self.not_started(e))?;
        if !status.success() {
            bail!("`{}` failed ({status})", self.shown);
        }
        Ok(())
    }

    /// Runs the command with its output where ours goes; with what code it exited.
    pub fn code(mut self) -> Result<ExitCode> {
        self.command.stdin(Stdio::null());
        let status = self.command.status().map_err(|e| self.not_started(e))?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// Runs the command, and says only whether it succeeded.
    pub fn succeeds(mut self) -> bool {
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.command.status().is_ok_and(|status| status.success())
    }

    /// Runs the command and returns what it printed on standard output, whether it succeeded or not. For commands whose
    /// output says what they found.
    pub fn output_however(mut self) -> Result<String> {
        self.command.stdin(Stdio::null());
        let output = self.command.output().map_err(|e| self.not_started(e))?;
        if output.stdout.is_empty() && !output.status.success() {
            return Err(self.failure(&output.status.to_string(), &String::from_utf8_lossy(&output.stderr), None));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the command and returns what it printed on standard output (nothing when it has a log file).
    pub fn output(mut self) -> Result<String> {
        let log = self.log.take();
        let Some(log) = log else {
            return self.captured();
        };
        if let Some(parent) = log.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open the log file {}", log.display()))?;
        writeln!(file, "$ {}", self.shown)?;
        let start = file.stream_position()?;
        self.command.stdout(file.try_clone()?).stderr(file);
        let status = self.wait()?;
        if status.success() {
            return Ok(String::new());
        }
        let mut printed = Vec::new();
        let mut file = fs::File::open(&log)?;
        file.seek(SeekFrom::Start(start))?;
        file.read_to_end(&mut printed)?;
        Err(self.failure(&status.to_string(), &String::from_utf8_lossy(&printed), Some(&log)))
    }

    /// Starts the command and leaves it running beside this process.
    ///
    /// The kernel ends it when the thread that started it ends, however that comes about: a port that stays
    /// forwarded after Ctrl-C or a kill would be nobody's.
    pub fn spawn(self) -> Result<Background> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|e| self.not_started(e))?;
        Ok(Background { child })
    }

    fn wait(&mut self) -> Result<std::process::ExitStatus> {
        let input = self.input.take();
        self.command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = self.command.spawn().map_err(|e| self.not_started(e))?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            // A command that stops reading early says why on its own, so a broken pipe is not reported here.
            let _ = stdin.write_all(&input);
        }
        Ok(child.wait()?)
    }

    fn captured(mut self) -> Result<String> {
        let input = self.input.take();
        self.command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(|e| self.not_started(e))?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            if let (Some(input), Some(mut stdin)) = (input, stdin) {
                scope.spawn(move || stdin.write_all(&input));
            }
            child.wait_with_output()
        })?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(printed);
        }
        let all = format!("{printed}{}", String::from_utf8_lossy(&output.stderr));
        Err(self.failure(&output.status.to_string(), &all, None))
    }

    fn not_started(&self, error: std::io::Error) -> anyhow::Error {
        let advice = self.advice.as_deref().unwrap_or("is it installed?");
        anyhow!("cannot run `{}`: {error}; {advice}", self.shown)
    }

    fn failure(&self, status: &str, printed: &str, log: Option<&Path>) -> anyhow::Error {
        let lines: Vec<&str> = printed.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ");
        let mut text = format!("`{}` failed ({status})", self.shown);
        if !tail.is_empty() {
            text.push_str("\n  ");
            text.push_str(&tail);
        }
        if let Some(log) = log {
            text.push_str(&format!("\nall of its output: {}", log.display()));
        }
        if let Some(advice) = &self.advice {
            text.push_str(&format!("\n{advice}"));
        }
        anyhow!(text)
    }
}

/// A command that runs beside this process; dropping it ends it.
pub struct Background {
    child: Child,
}

impl Background {
    /// Takes the reading ends of what the command prints; the second time there are none.
    pub fn pipes(&mut self) -> Option<(ChildStdout, ChildStderr)> {
        Some((self.child.stdout.take()?, self.child.stderr.take()?))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one step of a longer task under a progress line that shows the time that has passed.
///
/// On a terminal the line is redrawn; elsewhere it is printed when the step ends, and once a minute before that.
pub fn step<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let live = std::io::stderr().is_terminal();
    let done = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        let ticker = scope.spawn(|| tick(title, begun, live, &done));
        let result = work();
        done.store(true, Ordering::Relaxed);
        ticker.thread().unpark();
        result
    });
    let seconds = begun.elapsed().as_secs_f32();
    let end = if result.is_ok() { "done" } else { "failed" };
    let clear = if live { "\r\x1b[K" } else { "" };
    eprintln!("{clear}{title}: {end} ({seconds:.1} s)");
    result
}

fn tick(title: &str, begun: Instant, live: bool, done: &AtomicBool) {
    let every = if live { Duration::from_millis(500) } else { Duration::from_secs(60) };
    let mut next = begun + every;
    while !done.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now < next {
            std::thread::park_timeout(next - now);
            continue;
        }
        next += every;
        let seconds = begun.elapsed().as_secs();
        if live {
            eprint!("\r\x1b[K{title} … {seconds} s");
        } else {
            eprintln!("{title} … {seconds} s");
        }
    }
}

/// Asks again and again until the answer is true; an error that names `what` after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    loop {
        if ready()? {
            return Ok(());
        }
        if begun.elapsed() > limit {
            bail!("{what}: not after {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_last_words_and_the_advice() {
        let script = "for i in $(seq 30); do echo line $i; done; exit 3";
        let error = Run::new("sh").args(["-c", script]).advice("count less").quiet();
        let text = error.map_or_else(|e| e.to_string(), |()| String::new());
        assert!(text.contains("exit status: 3") && text.contains("line 30") && text.contains("count less"), "{text}");
        assert!(!text.contains("line 10\n"), "{text}");
    }

    #[test]
    fn input_and_output_pass_through() -> Result<()> {
        assert_eq!(Run::new("cat").input("hello").output()?, "hello");
        Ok(())
    }
}
