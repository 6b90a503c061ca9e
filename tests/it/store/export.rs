//! Exports of the audit, and that they prove themselves without the store.

use std::process::{Command, Stdio};

use berth::store::Store;
use berth::store::StoreError;
use berth::store::audit::verify::{Fault, Verdict, verify_lines};
use berth::store::audit::{Head, Record};
use futures::TryStreamExt;

use super::{Database, Dice, draft, fill, on_both};

/// The hash of the first record of these tests, written down: what was exported once must be verifiable for ever.
const FIRST: &str = "6ea96d5445ffada82112b6c82f4bf1d57bed1b315c20f0e46f2c5e421e8a7394";

async fn export(store: &Store, after: u64) -> (Vec<u8>, Head) {
    let mut text = Vec::new();
    let last = store.export_to(after, &mut text).await.unwrap();
    (text, last.unwrap())
}

fn broken(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Broken { .. })
}

on_both! {
    async fn an_export_proves_itself(database) {
        fill(&database.store, 0..700).await;
        let (text, last) = export(&database.store, 0).await;
        assert_eq!(Some(&last), database.store.head().await.unwrap().as_ref());
        let sound = Verdict::Sound { records: 700, head: Some(last.clone()) };
        assert_eq!(verify_lines(text.as_slice(), Head::genesis(), Some(last)).unwrap(), sound);
    }

    async fn an_export_goes_on_where_another_ended(database) {
        fill(&database.store, 0..10).await;
        let (_, first) = export(&database.store, 0).await;
        fill(&database.store, 10..20).await;
        let (text, last) = export(&database.store, first.seq).await;
        let verdict = verify_lines(text.as_slice(), first.clone(), Some(last.clone())).unwrap();
        assert_eq!(verdict, Verdict::Sound { records: 10, head: Some(last) });
        // What comes first is missing for whoever begins elsewhere.
        let verdict = verify_lines(text.as_slice(), Head::genesis(), None).unwrap();
        assert_eq!(verdict, Verdict::Broken { at: 1, what: Fault::Missing });
        assert!(matches!(verify_lines(text.as_slice(), first, Some(Head::genesis())), Err(StoreError::Invalid(_))));
    }

    async fn every_edit_of_an_export_is_found(database) {
        fill(&database.store, 0..40).await;
        let (text, last) = export(&database.store, 0).await;
        let mut dice = Dice(11);
        let verify = |text: &[u8]| verify_lines(text, Head::genesis(), Some(last.clone())).unwrap();
        for _ in 0..1000 {
            let mut edited = text.clone();
            let place = dice.below(text.len() as u64 - 1) as usize;
            match dice.below(3) {
                0 => edited[place] = edited[place].wrapping_add(1 + dice.below(255) as u8),
                1 => drop(edited.remove(place)),
                _ => edited.insert(place, dice.below(256) as u8),
            }
            assert!(broken(&verify(&edited)), "a byte at {place}: {}", String::from_utf8_lossy(&edited));
        }
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        for line in 0..lines.len() {
            let mut without = lines.clone();
            without.remove(line);
            assert!(broken(&verify(&without.concat())), "without line {line}");
            let mut twice = lines.clone();
            twice.insert(line, lines[line]);
            assert!(broken(&verify(&twice.concat())), "line {line} twice");
            let mut swapped = lines.clone();
            swapped.swap(line, (line + 1) % lines.len());
            assert!(broken(&verify(&swapped.concat())), "line {line} with the next");
        }
        assert!(broken(&verify(b"")));
        assert!(!broken(&verify(&text)));
    }

    async fn an_export_is_streamed_in_parts(database) {
        fill(&database.store, 0..600).await;
        let parts: Vec<_> = database.store.export(0).try_collect().await.unwrap();
        assert!(parts.len() >= 3, "{}", parts.len());
        let text: String = parts.into_iter().map(|part| part.text).collect();
        assert_eq!(text.into_bytes(), export(&database.store, 0).await.0);
    }

    async fn a_line_is_a_record_as_json(database) {
        let record = database.store.append(draft(0)).await.unwrap();
        let (text, _) = export(&database.store, 0).await;
        assert_eq!(serde_json::from_slice::<Record>(&text).unwrap(), record);
        assert_eq!(record.hash, FIRST);
    }

    async fn a_line_is_checked_with_two_tools_of_any_system(database) {
        let record = database.store.append(draft(0)).await.unwrap();
        let (text, _) = export(&database.store, 0).await;
        let script = r#"sed 's/^{"hash":"[0-9a-f]*",/{/' | tr -d '\n' | sha256sum"#;
        let mut shell = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), &text).unwrap();
        let output = shell.wait_with_output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(&record.hash));
    }
}

#[test]
fn a_line_without_an_end_fills_no_memory() {
    let endless = std::io::BufReader::new(std::io::repeat(b'a'));
    assert!(broken(&verify_lines(endless, Head::genesis(), None).unwrap()));
}
