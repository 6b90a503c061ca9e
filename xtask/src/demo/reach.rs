//! Reaching an instance as a person would: a forwarded port and the first words of its protocol. Owns the port and
//! plain HTTP; what a screen says is `rfb`.

use crate::cluster::Layout;
use crate::run::Background;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A port of this machine that leads to a pod's, as long as this value lives.
pub struct Forward {
    port: u16,
    _kubectl: Background,
}

impl Forward {
    /// Forwards a free port of this machine to a pod's port.
    pub fn to(layout: &Layout, namespace: &str, pod: &str, port: u16) -> Result<Self> {
        let (pod, ports) = (format!("pod/{pod}"), format!(":{port}"));
        let mut kubectl = layout.kubectl().args(["port-forward", "-n", namespace, &pod, &ports]).spawn()?;
        let (stdout, mut stderr) = kubectl.pipes().context("kubectl has no output")?;
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut line)?;
        let Some(port) = local_port(&line) else {
            let mut words = String::new();
            let _ = stderr.read_to_string(&mut words);
            anyhow::bail!("`kubectl port-forward -n {namespace} {pod} {ports}`: {line}{words}");
        };
        // A reader that goes away would end kubectl by a broken pipe.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Ok(Self { port, _kubectl: kubectl })
    }

    /// The port of this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// One connection to the pod's port.
    pub fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Asks for a page; its status and its text.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        self.ask(path, "")
    }

    /// Asks for a page as the gateway does, which shows a Workspace's token.
    pub fn get_as_gateway(&self, path: &str, token: &str) -> Result<(u16, String)> {
        self.ask(path, &format!("Berth-Proxy: {token}\r\n"))
    }

    fn ask(&self, path: &str, headers: &str) -> Result<(u16, String)> {
        let mut stream = self.connect()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n{headers}\r\n", self.port)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let status = status(&answer).with_context(|| format!("no HTTP answer to GET {path}: {answer:.80}"))?;
        Ok((status, answer.into_owned()))
    }
}

fn local_port(line: &str) -> Option<u16> {
    line.strip_prefix("Forwarding from 127.0.0.1:")?.split(' ').next()?.parse().ok()
}

fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{local_port, status};

    #[test]
    fn first_lines_are_read() {
        assert_eq!(local_port("Forwarding from 127.0.0.1:41000 -> 5900\n"), Some(41000));
        assert_eq!(local_port("error: pod not found\n"), None);
        assert_eq!(status("HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(status("RFB 003.008\n"), None);
    }
}
