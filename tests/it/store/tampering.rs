//! Whoever edits the chain in the database is found, whatever they edit.

use berth::store::audit::verify::{Fault, Verdict};
use berth::store::audit::{Draft, Head};
use berth::store::{Store, StoreError};

use super::{Database, Dice, Raw, draft, fill, on_both};

const RECORDS: u64 = 40;
const TEXTS: [&str; 13] = [
    "organization",
    "actor",
    "action",
    "target_kind",
    "target_name",
    "target_uid",
    "outcome",
    "reason",
    "address",
    "address_source",
    "once",
    "previous",
    "hash",
];

/// A chain, and a copy of its tables from which it can be made again.
async fn chain(database: &Database) -> Raw {
    fill(&database.store, 0..RECORDS).await;
    let mut raw = database.raw().await;
    raw.execute("CREATE TABLE record_copy AS SELECT * FROM audit_record").await;
    raw.execute("CREATE TABLE head_copy AS SELECT * FROM audit_head").await;
    raw
}

async fn restore(raw: &mut Raw) {
    raw.execute(
        "BEGIN; DELETE FROM audit_record; DELETE FROM audit_head; \
         INSERT INTO audit_record SELECT * FROM record_copy; INSERT INTO audit_head SELECT * FROM head_copy; COMMIT",
    )
    .await;
}

/// An edit of the chain or of its head.
fn edit(dice: &mut Dice) -> String {
    let seq = 1 + dice.below(RECORDS);
    let other = 1 + (seq + dice.below(RECORDS - 1)) % RECORDS;
    let column = TEXTS[usize::try_from(dice.below(13)).unwrap()];
    let which = format!("WHERE seq = {seq}");
    match dice.below(14) {
        0 => format!("UPDATE audit_record SET {column} = coalesce({column}, '') || 'x' {which}"),
        1 => format!("UPDATE audit_record SET {column} = '' {which} AND {column} <> ''"),
        2 => {
            let nullable = ["target_uid", "reason", "address", "address_source"];
            let column = nullable[usize::try_from(dice.below(4)).unwrap()];
            format!("UPDATE audit_record SET {column} = NULL {which} AND {column} IS NOT NULL")
        }
        3 => format!("UPDATE audit_record SET at = at + {} {which}", 1 + dice.below(1000)),
        4 => format!("UPDATE audit_record SET at = {} {which}", i64::MAX),
        // White space means nothing in JSON, and is an edit all the same.
        5 => format!("UPDATE audit_record SET details = details || ' ' {which}"),
        // Text that would stand for the members after it.
        6 => format!("UPDATE audit_record SET details = '{{}},\"once\":null' {which}"),
        7 => format!("UPDATE audit_record SET seq = {} {which}", RECORDS + 1 + dice.below(9)),
        8 => format!("DELETE FROM audit_record {which}"),
        9 => format!("DELETE FROM audit_record WHERE seq >= {seq}"),
        10 => format!("DELETE FROM audit_record WHERE seq <= {seq}"),
        11 => format!(
            "UPDATE audit_record SET seq = -1 WHERE seq = {seq}; UPDATE audit_record SET seq = {seq} WHERE \
             seq = {other}; UPDATE audit_record SET seq = {other} WHERE seq = -1"
        ),
        12 => format!(
            "INSERT INTO audit_record SELECT {}, at, organization, actor, action, target_kind, target_name, target_uid, \
             outcome, reason, address, address_source, once, details, previous, hash FROM record_copy {which}",
            [0, -7, i64::try_from(RECORDS + 1).unwrap()][usize::try_from(dice.below(3)).unwrap()]
        ),
        _ => match dice.below(3) {
            0 => format!("UPDATE audit_head SET seq = {}", RECORDS + 1 + dice.below(9)),
            1 => format!("UPDATE audit_head SET seq = {}", seq - 1),
            _ => "UPDATE audit_head SET hash = previous FROM audit_record WHERE audit_record.seq = 7".to_owned(),
        },
    }
}

on_both! {
    async fn every_one_of_a_thousand_edits_is_found(database) {
        let mut raw = chain(&database).await;
        let mut dice = Dice(3);
        let mut edits = 0;
        while edits < 1000 {
            let edit = edit(&mut dice);
            if raw.execute(&edit).await == 0 {
                // Nothing was there to be edited.
                continue;
            }
            edits += 1;
            let verdict = database.store.verify(None).await.unwrap();
            assert!(matches!(verdict, Verdict::Broken { .. }), "{edit}: {verdict:?}");
            restore(&mut raw).await;
        }
        let verdict = database.store.verify(None).await.unwrap();
        assert!(matches!(verdict, Verdict::Sound { records: RECORDS, .. }), "{verdict:?}");
    }

    async fn a_record_that_was_edited_is_named(database) {
        let mut raw = chain(&database).await;
        let check = async |raw: &mut Raw, edit: &str, at, what| {
            raw.execute(edit).await;
            assert_eq!(database.store.verify(None).await.unwrap(), Verdict::Broken { at, what }, "{edit}");
            restore(raw).await;
        };
        let head = database.store.head().await.unwrap().unwrap();
        check(&mut raw, "UPDATE audit_record SET actor = 'x' WHERE seq = 7", 7, Fault::Edited).await;
        check(&mut raw, "UPDATE audit_record SET hash = previous WHERE seq = 7", 7, Fault::Edited).await;
        check(&mut raw, "DELETE FROM audit_record WHERE seq = 7", 7, Fault::Missing).await;
        check(&mut raw, "DELETE FROM audit_record WHERE seq <= 7", 1, Fault::Missing).await;
        check(&mut raw, "DELETE FROM audit_record WHERE seq > 7", 8, Fault::Cut(head.clone())).await;
        check(&mut raw, "DELETE FROM audit_record", 1, Fault::Cut(head.clone())).await;
        check(&mut raw, "UPDATE audit_head SET seq = 41", 41, Fault::Cut(Head { seq: 41, ..head.clone() })).await;
        check(&mut raw, "UPDATE audit_head SET seq = 7", 8, Fault::Beyond(Head { seq: 7, ..head })).await;
        check(&mut raw, "DELETE FROM audit_head", 41, Fault::HeadGone).await;
    }

    async fn text_that_is_none_is_found(database) {
        let mut raw = chain(&database).await;
        // PostgreSQL does not take it.
        if matches!(raw, Raw::Sqlite(_)) {
            raw.execute("UPDATE audit_record SET actor = CAST(x'ff' AS TEXT) WHERE seq = 7").await;
            let verdict = database.store.verify(None).await.unwrap();
            assert!(matches!(verdict, Verdict::Broken { at: 7, what: Fault::Unreadable(_) }), "{verdict:?}");
        }
    }

    async fn a_tail_that_was_cut_with_its_head_is_found_by_what_was_published(database) {
        let mut raw = chain(&database).await;
        let published = database.store.head().await.unwrap().unwrap();
        raw.execute("DELETE FROM audit_record WHERE seq > 30").await;
        raw.execute("UPDATE audit_head SET seq = 30, hash = (SELECT hash FROM audit_record WHERE seq = 30)").await;
        assert!(matches!(database.store.verify(None).await.unwrap(), Verdict::Sound { records: 30, .. }));
        let verdict = database.store.verify(Some(published.clone())).await.unwrap();
        assert_eq!(verdict, Verdict::Broken { at: 31, what: Fault::Cut(published.clone()) });
        // And no less when others were written in its place.
        fill(&database.store, 100..120).await;
        let verdict = database.store.verify(Some(published.clone())).await.unwrap();
        assert_eq!(verdict, Verdict::Broken { at: RECORDS, what: Fault::NotAsPublished(published) });
    }

    async fn a_chain_that_was_made_anew_is_found_by_what_was_published(database) {
        fill(&database.store, 0..10).await;
        let published = database.store.head().await.unwrap().unwrap();
        let mut raw = database.raw().await;
        raw.execute("DELETE FROM audit_record").await;
        raw.execute(&format!("UPDATE audit_head SET seq = 0, hash = '{}'", "0".repeat(64))).await;
        fill(&database.store, 5..20).await;
        assert!(matches!(database.store.verify(None).await.unwrap(), Verdict::Sound { records: 15, .. }));
        let verdict = database.store.verify(Some(published.clone())).await.unwrap();
        assert_eq!(verdict, Verdict::Broken { at: 10, what: Fault::NotAsPublished(published) });
    }

    async fn a_chain_that_grew_since_its_head_was_published_is_sound(database) {
        fill(&database.store, 0..10).await;
        let published = database.store.head().await.unwrap();
        fill(&database.store, 10..20).await;
        assert!(matches!(database.store.verify(published).await.unwrap(), Verdict::Sound { records: 20, .. }));
    }

    async fn a_draft_that_cannot_be_written_disturbs_nobody(database) {
        let keyed = Draft { once: Some("key".to_owned()), ..draft(0) };
        database.store.append(keyed.clone()).await.unwrap();
        // What is to be answered with cannot be read any more.
        database.raw().await.execute("UPDATE audit_record SET outcome = 'none'").await;
        let all = (0..20).map(|number| database.store.append(if number == 7 { keyed.clone() } else { draft(number) }));
        for (number, done) in futures::future::join_all(all).await.into_iter().enumerate() {
            match done {
                Err(StoreError::Corrupt(_)) => assert_eq!(number, 7),
                done => assert_eq!(done.unwrap().entry.details["number"], number),
            }
        }
        assert_eq!(database.store.head().await.unwrap().unwrap().seq, 20);
    }

    async fn after_a_cut_the_chain_goes_on_and_the_cut_stays_to_be_found(database) {
        let mut raw = chain(&database).await;
        raw.execute("DELETE FROM audit_record WHERE seq > 30").await;
        assert_eq!(database.store.append(draft(41)).await.unwrap().seq, RECORDS + 1);
        let store = Store::open(&database.url).await.unwrap();
        assert_eq!(store.verify(None).await.unwrap(), Verdict::Broken { at: 31, what: Fault::Missing });
    }
}
