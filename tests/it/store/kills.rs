//! A process that is killed while it records: what it acknowledged is there, and the chain is whole.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use berth::store::Store;
use berth::store::audit::AuditQuery;
use berth::store::audit::verify::Verdict;

use super::{Dice, Directory, draft};

/// The variable that makes this binary the process that is killed, and the URL that it writes to.
const VICTIM: &str = "BERTH_TEST_VICTIM";
const KILLS: usize = 200;
/// How many kills one file has to outlive.
const KILLS_OF_A_FILE: usize = 10;

/// The process that is killed: it prints what was acknowledged. Without the variable it is no test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_records_until_it_is_killed() {
    let Ok(url) = std::env::var(VICTIM) else { return };
    let store = Store::open(&url).await.unwrap();
    let callers = (0..12_u64).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let record = store.append(draft(caller * 1_000_000 + number)).await.unwrap();
                // One write each: a line is whole, or it is not there.
                let line = format!("ack {} {}\n", record.seq, record.hash);
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        })
    });
    futures::future::join_all(callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_two_hundred_kills() {
    let mut dice = Dice(99);
    let (mut all, mut killed) = (0, 0);
    while killed < KILLS {
        let directory = Directory::new();
        let url = format!("sqlite:{}", directory.join("berth.db").display());
        // A list: a number that was acknowledged twice is two records, of which one is lost.
        let mut acknowledged = Vec::new();
        for _ in 0..KILLS_OF_A_FILE {
            let mut victim = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--nocapture", "store::kills::a_process_that_records_until_it_is_killed"])
                .env(VICTIM, &url)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let lines = BufReader::new(victim.stdout.take().unwrap());
            // Some before it has opened the file, some while it makes the schema, most while it writes.
            let moment = Duration::from_micros(dice.below(80_000));
            let reader = std::thread::spawn(move || lines.split(b'\n').map_while(Result::ok).collect::<Vec<_>>());
            tokio::time::sleep(moment).await;
            victim.kill().unwrap();
            victim.wait().unwrap();
            killed += 1;
            for line in reader.join().unwrap() {
                let line = String::from_utf8_lossy(&line).into_owned();
                let mut words = line.split_whitespace();
                if let (Some("ack"), Some(seq), Some(hash)) = (words.next(), words.next(), words.next())
                    && hash.len() == 64
                {
                    acknowledged.push((seq.parse::<u64>().unwrap(), hash.to_owned()));
                }
            }
            let store = Store::open(&url).await.unwrap();
            let verdict = store.verify(None).await.unwrap();
            assert!(matches!(verdict, Verdict::Sound { .. }), "after {killed} kills: {verdict:?}");
            let mut found = BTreeMap::new();
            loop {
                let after_seq = found.last_key_value().map(|(seq, _)| *seq);
                let page = store.records(&AuditQuery { after_seq, limit: 500, ..AuditQuery::default() }).await.unwrap();
                if page.is_empty() {
                    break;
                }
                found.extend(page.into_iter().map(|record| (record.seq, record.hash)));
            }
            for (seq, hash) in &acknowledged {
                assert_eq!(found.get(seq), Some(hash), "{seq} was acknowledged, after {killed} kills");
            }
            store.close().await;
        }
        all += acknowledged.len();
    }
    println!("{killed} kills, {all} acknowledged records, all of them there");
    assert!(all > KILLS, "the process was killed before it wrote: {all}");
}
