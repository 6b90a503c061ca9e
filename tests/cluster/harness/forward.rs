//! A port of the cluster, forwarded to this machine as `kubectl` does it.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A forwarded port, until this is dropped. When this process ends, however it ends, the shell reads the end of its input and
/// ends kubectl.
pub struct Forward {
    /// The port on this machine.
    pub port: u16,
    shell: Child,
    /// Held open: kubectl goes on writing there.
    _said: BufReader<ChildStdout>,
}

const HELD: &str = r#"kubectl "$@" & forward=$!; read -r _; kill "$forward""#;

impl Forward {
    /// Forwards a port of `target`, such as `pod/web`, by its name or number.
    pub fn to(namespace: &str, target: &str, port: &str) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", HELD, "sh", "port-forward", "--namespace", namespace, target, &format!(":{port}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(shell.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let local = line.split(':').nth(1).and_then(|rest| rest.split(' ').next()).and_then(|port| port.parse().ok());
        Self { port: local.unwrap_or_else(|| panic!("kubectl says {line:?}")), shell, _said: said }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
