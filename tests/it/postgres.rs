//! PostgreSQL for tests: a server of their own, from Debian's package, in a directory under `/tmp`. One that all tests
//! share ends with the process, however that ends; one that a test stops and starts is the test's.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Debian's `postgresql-15`.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// The password of the role `postgres`, which is asked for at the TCP port and not at the socket.
pub const PASSWORD: &str = "correct-horse";

/// Keeps the server: until its input ends, or says to keep the data. It runs as the server's user, so that what it
/// ends by its process id is its own child.
const KEEPER: &str = r#"
"$1/postgres" -D "$2/data" -c unix_socket_directories="$2" -c listen_addresses=127.0.0.1 -c port="$3" \
    -c max_connections=200 -c shared_buffers=16MB </dev/null >>"$2/log" 2>&1 &
server=$!
read -r word
kill -INT "$server"
wait "$server"
[ "$word" = keep ] || rm -rf "$2"
"#;

/// A server.
pub struct Server {
    directory: PathBuf,
    port: u16,
    keeper: Option<Child>,
}

impl Server {
    /// The one that all tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A new one.
    pub fn start() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let missing = format!("the tests of the store need PostgreSQL 15 in {PROGRAMS}: apt-get install postgresql-15");
        assert!(Path::new(PROGRAMS).join("initdb").exists(), "{missing}");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("berth-postgres-{}-{count}", std::process::id()));
        // What an earlier process of this number left behind.
        let _ = std::fs::remove_dir_all(&directory);
        let shell = format!(
            "mkdir -m 700 \"$2\" && echo {PASSWORD} >\"$2/password\" && \"$1/initdb\" -D \"$2/data\" -U postgres \
             -E UTF8 --locale=C.UTF-8 --no-sync --auth-local=trust --auth-host=scram-sha-256 --pwfile=\"$2/password\""
        );
        done(as_its_user(&shell).arg(PROGRAMS).arg(&directory));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { directory, port, keeper: None };
        server.resume();
        server
    }

    /// Starts it, the first time or after [`Server::stop`].
    pub fn resume(&mut self) {
        let mut keeper = as_its_user(KEEPER);
        keeper.arg(PROGRAMS).arg(&self.directory).arg(self.port.to_string());
        self.keeper = Some(keeper.stdin(Stdio::piped()).spawn().unwrap());
        let begun = Instant::now();
        while self.psql("postgres", "SELECT 1").is_err() {
            let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "PostgreSQL does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it, and keeps its data.
    pub fn stop(&mut self) {
        let mut keeper = self.keeper.take().unwrap();
        keeper.stdin.take().unwrap().write_all(b"keep\n").unwrap();
        keeper.wait().unwrap();
    }

    /// A new, empty database: its URL at the socket.
    pub fn database(&self, options: &str) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 {options}")).unwrap();
        format!("postgres:///{name}?host={}&port={}&user=postgres", self.directory.display(), self.port)
    }

    /// The URL of a database at the TCP port.
    pub fn at_port(&self, password: &str, name: &str) -> String {
        format!("postgres://postgres:{password}@127.0.0.1:{}/{name}", self.port)
    }

    fn psql(&self, database: &str, sql: &str) -> Result<Output, String> {
        let mut psql = Command::new(Path::new(PROGRAMS).join("psql"));
        psql.args(["-qX", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql]);
        let output = psql.arg("-h").arg(&self.directory).args(["-p", &self.port.to_string()]).output().unwrap();
        if output.status.success() { Ok(output) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A shell as the user that the server runs as: PostgreSQL refuses root.
fn as_its_user(script: &str) -> Command {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    // In a directory that this user may enter.
    command.current_dir("/").args(["-c", script, "sh"]);
    command
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
