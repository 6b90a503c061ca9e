//! What goes wrong around the store while it is open: each call says so, nothing is half-written, and afterwards it
//! works again in the same process.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use berth::store::audit::verify::Verdict;
use berth::store::{Store, StoreError};
use sqlx::{Connection, Executor, SqliteConnection};

use super::{Database, Directory, draft, fill};
use crate::postgres::Server;

/// The variable that makes this binary another process of a test, and the path that it is about.
const LOCKED: &str = "BERTH_TEST_LOCKED_FILE";

async fn assert_unavailable(store: &Store) {
    let refused = store.append(draft(0)).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

async fn assert_sound(store: &Store, records: u64) {
    let head = store.head().await.unwrap();
    assert_eq!(store.verify(None).await.unwrap(), Verdict::Sound { records, head });
}

/// The other process of the test below: it locks a file until its input ends. Without the variable it is no test.
#[tokio::test]
async fn another_process_that_locks_a_file() {
    let Ok(path) = std::env::var(LOCKED) else { return };
    let mut connection = SqliteConnection::connect(&format!("sqlite://{path}")).await.unwrap();
    connection.execute(sqlx::raw_sql("BEGIN IMMEDIATE")).await.unwrap();
    println!("locked");
    let _ = std::io::stdin().lines().count();
}

#[tokio::test]
async fn a_file_that_another_process_has_locked_is_unavailable_until_it_lets_go() {
    let directory = Directory::new();
    let path = directory.join("berth.db");
    let store = Store::open(&format!("sqlite:{}", path.display())).await.unwrap();
    fill(&store, 0..3).await;
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "store::faults::another_process_that_locks_a_file"])
        .env(LOCKED, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("locked")));
    assert_unavailable(&store).await;
    // Who only reads waits for nobody.
    assert_sound(&store, 3).await;
    drop(other.stdin.take());
    other.wait().unwrap();
    fill(&store, 3..6).await;
    assert_sound(&store, 6).await;
}

/// A file system of 4 MiB.
struct SmallDisk(PathBuf, #[expect(dead_code, reason = "it goes away with the disk")] Directory);

impl SmallDisk {
    fn mount() -> Self {
        let directory = Directory::new();
        let path = directory.join("disk");
        std::fs::create_dir(&path).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&path).status().unwrap();
        assert!(mounted.success(), "the test of a full disk mounts a small tmpfs: it has to run as root");
        Self(path, directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_unavailable_until_there_is_room() {
    let disk = SmallDisk::mount();
    let path = disk.0.join("berth.db");
    let store = Store::open(&format!("sqlite:{}", path.display())).await.unwrap();
    fill(&store, 0..3).await;
    let mut written = 3;
    for round in 0..3 {
        let ballast = disk.0.join("ballast");
        // To the last byte.
        let _ = std::fs::write(&ballast, vec![0; 8 << 20]);
        let mut refused = 0;
        for number in 0..200 {
            match store.append(draft(number)).await {
                Ok(_) => written += 1,
                Err(StoreError::Unavailable(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(refused > 0, "round {round}");
        std::fs::remove_file(&ballast).unwrap();
        fill(&store, 0..20).await;
        written += 20;
        assert_sound(&store, written).await;
    }
    store.close().await;
    assert_sound(&Store::open(&format!("sqlite:{}", path.display())).await.unwrap(), written).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_into_a_file_that_was_taken_away() {
    let directory = Directory::new();
    let path = directory.join("berth.db");
    let store = Store::open(&format!("sqlite:{}", path.display())).await.unwrap();
    fill(&store, 0..3).await;
    std::fs::rename(directory.join("berth.db"), directory.join("away.db")).unwrap();
    assert_unavailable(&store).await;
    std::fs::write(&path, "").unwrap();
    assert_unavailable(&store).await;
    let read = store.head().await;
    assert!(matches!(&read, Err(StoreError::Unavailable(_))), "{read:?}");
    std::fs::rename(directory.join("away.db"), directory.join("berth.db")).unwrap();
    fill(&store, 3..6).await;
    assert_sound(&store, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_is_unavailable_until_it_is_back() {
    let mut server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let store = Store::open(&server.database("")).await.unwrap();
    fill(&store, 0..10).await;
    for round in 0..2 {
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut acknowledged = Vec::new();
                    let mut number = caller * 10_000;
                    loop {
                        match store.append(draft(number)).await {
                            Ok(record) => acknowledged.push((record.seq, record.hash)),
                            Err(StoreError::Unavailable(_)) => return acknowledged,
                            Err(other) => panic!("{other}"),
                        }
                        number += 1;
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        server = tokio::task::spawn_blocking(move || {
            server.stop();
            server
        })
        .await
        .unwrap();
        assert_unavailable(&store).await;
        let lost = store.head().await;
        assert!(matches!(&lost, Err(StoreError::Unavailable(_))), "{lost:?}");
        server = tokio::task::spawn_blocking(move || {
            server.resume();
            server
        })
        .await
        .unwrap();
        let record = store.append(draft(round)).await.unwrap();
        assert_sound(&store, record.seq).await;
        let mut text = Vec::new();
        store.export_to(0, &mut text).await.unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.lines().collect();
        for caller in callers {
            for (seq, hash) in caller.await.unwrap() {
                assert!(lines[usize::try_from(seq).unwrap() - 1].contains(&hash), "{seq} was acknowledged");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hangs_in_its_transaction_holds_up_the_others_for_a_while_only() {
    let database = Database::postgres().await;
    fill(&database.store, 0..3).await;
    let mut raw = database.raw().await;
    raw.execute("BEGIN; SELECT 1 FROM audit_head FOR UPDATE").await;
    assert_unavailable(&database.store).await;
    raw.execute("ROLLBACK").await;
    fill(&database.store, 3..6).await;
    assert_sound(&database.store, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_file_does_not_grow_for_ever_while_others_read() {
    let directory = Directory::new();
    let path = directory.join("berth.db");
    let store = Store::open(&format!("sqlite:{}", path.display())).await.unwrap();
    fill(&store, 0..1000).await;
    let readers: Vec<_> = (0..6)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { while store.verify(None).await.is_ok() {} })
        })
        .collect();
    for _ in 0..30 {
        fill(&store, 0..500).await;
    }
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    let log = std::fs::metadata(directory.join("berth.db-wal")).unwrap().len();
    assert!(log < 32 << 20, "{log}");
}
