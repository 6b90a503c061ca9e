//! Records of the audit: how they are added, and how they are found.

use std::collections::BTreeSet;

use berth::store::audit::verify::Verdict;
use berth::store::audit::{AuditQuery, Draft, Outcome, Record};
use berth::store::{Store, StoreError};
use futures::FutureExt;
use serde_json::json;

use super::{Database, at, draft, fill, on_both};

fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.seq).collect()
}

async fn assert_sound(store: &Store, records: u64) {
    let head = store.head().await.unwrap();
    assert_eq!(store.verify(None).await.unwrap(), Verdict::Sound { records, head });
}

on_both! {
    async fn an_empty_chain_is_sound(database) {
        assert_eq!(database.store.head().await.unwrap(), None);
        assert_sound(&database.store, 0).await;
    }

    async fn records_are_numbered_from_one_and_each_holds_the_hash_before(database) {
        let mut before = "0".repeat(64);
        for number in 1..=5 {
            let record = database.store.append(draft(number)).await.unwrap();
            assert_eq!((record.seq, &record.previous, &record.entry), (number, &before, &draft(number)));
            before = record.hash;
        }
        let head = database.store.head().await.unwrap().unwrap();
        assert_eq!((head.seq, head.hash), (5, before));
        let query = AuditQuery { limit: 9, ..AuditQuery::default() };
        assert_eq!(seqs(&database.store.records(&query).await.unwrap()), [1, 2, 3, 4, 5]);
        assert_sound(&database.store, 5).await;
    }

    async fn what_is_written_at_once_has_one_order(database) {
        let appends = (0..700).map(|number| database.store.append(draft(number)));
        let records = futures::future::try_join_all(appends).await.unwrap();
        for (number, record) in records.iter().enumerate() {
            assert_eq!(record.entry, draft(number as u64), "each gets the answer to its own draft");
        }
        let numbers: BTreeSet<u64> = records.iter().map(|record| record.seq).collect();
        assert_eq!(numbers, (1..=700).collect());
        assert_sound(&database.store, 700).await;
    }

    async fn several_processes_make_one_chain(database) {
        let other = Store::open(&database.url).await.unwrap();
        let third = Store::open(&database.url).await.unwrap();
        let stores = [&database.store, &other, &third];
        // Each waits for its own, so that they come in turns.
        let each = stores.into_iter().enumerate().map(|(index, store)| async move {
            for number in 0..40 {
                store.append(draft(index as u64 * 100 + number)).await.unwrap();
            }
        });
        futures::future::join_all(each).await;
        assert_sound(&other, 120).await;
    }

    async fn a_key_is_recorded_once(database) {
        let other = Store::open(&database.url).await.unwrap();
        let with = |key: &str, number| Draft { once: Some(key.to_owned()), ..draft(number) };
        let first = database.store.append(with("uid-1/ended", 1)).await.unwrap();
        assert_eq!(other.append(with("uid-1/ended", 2)).await.unwrap(), first);
        let mut appends = Vec::new();
        for number in 0..200 {
            let store = if number % 2 == 0 { &database.store } else { &other };
            appends.push(store.append(with(&format!("uid-2/{}", number % 10), number)));
        }
        let records = futures::future::try_join_all(appends).await.unwrap();
        for (number, record) in records.iter().enumerate() {
            assert_eq!(record.hash, records[number % 10].hash);
        }
        assert_sound(&other, 11).await;
    }

    async fn a_draft_that_is_too_large_disturbs_nobody(database) {
        let large = Draft { reason: Some("r".repeat(70_000)), ..draft(1) };
        let named = Draft { actor: "a".repeat(2000), ..draft(1) };
        let deep = Draft { details: (0..200).fold(json!(1), |inner, _| json!([inner])), ..draft(1) };
        let (large, named, deep, good) = futures::join!(
            database.store.append(large),
            database.store.append(named),
            database.store.append(deep),
            database.store.append(draft(2)),
        );
        for refused in [large, named, deep] {
            assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
        }
        assert_eq!(good.unwrap().seq, 1);
        // As long as it may be, with what grows when it is written as JSON.
        let longest = Draft { reason: Some("\u{1}".repeat(10_000)), ..draft(3) };
        database.store.append(longest).await.unwrap();
        assert_sound(&database.store, 2).await;
    }

    async fn odd_text_is_kept_and_proves_itself(database) {
        let odd = "\u{0}\u{1}\u{7f}\u{2028}\"\\/\r\n\tZoë e\u{301} 🚢 \u{10ffff}\u{feff}";
        let written = Draft {
            actor: odd.to_owned(),
            reason: Some(odd.to_owned()),
            once: Some(odd.to_owned()),
            details: json!({ odd: [odd, 1e300, -0.0, 1e-7, 0.1, 5e-324, i64::MIN, u64::MAX], "z": null, "a": {} }),
            ..draft(1)
        };
        let record = database.store.append(written.clone()).await.unwrap();
        assert_eq!(record.entry.actor, odd.replace('\0', "\u{fffd}"));
        assert_eq!(database.store.append(written).await.unwrap(), record);
        let query = AuditQuery { actor: Some(odd.to_owned()), limit: 1, ..AuditQuery::default() };
        assert_eq!(database.store.records(&query).await.unwrap(), [record]);
        assert_sound(&database.store, 1).await;
    }

    async fn records_are_found_by_what_they_say(database) {
        fill(&database.store, 0..30).await;
        database.store.append(Draft { action: "end".to_owned(), outcome: Outcome::Denied, ..draft(30) }).await.unwrap();
        let all = database.store.records(&AuditQuery { limit: 100, ..AuditQuery::default() }).await.unwrap();
        let check = async |query: AuditQuery, wanted: &dyn Fn(&Record) -> bool| {
            let found = database.store.records(&query).await.unwrap();
            let wanted: Vec<_> = all.iter().filter(|record| wanted(record)).cloned().collect();
            assert!(!wanted.is_empty());
            assert_eq!(found, wanted, "{query:?}");
        };
        let any = AuditQuery { limit: 100, ..AuditQuery::default() };
        let two = Some(vec!["org-1".to_owned(), "org-2".to_owned()]);
        check(AuditQuery { organizations: two, ..any.clone() }, &|record| record.entry.organization != "org-0").await;
        let actor = Some("user-3@example.org".to_owned());
        check(AuditQuery { actor, ..any.clone() }, &|record| record.entry.actor.starts_with("user-3@")).await;
        check(AuditQuery { action: Some("end".to_owned()), ..any.clone() }, &|record| record.seq == 31).await;
        check(AuditQuery { since: Some(at(20)), ..any.clone() }, &|record| record.entry.at >= at(20)).await;
        check(AuditQuery { until: Some(at(20)), ..any.clone() }, &|record| record.entry.at < at(20)).await;
        check(AuditQuery { after_seq: Some(28), ..any.clone() }, &|record| record.seq > 28).await;
        check(AuditQuery { before_seq: Some(3), ..any.clone() }, &|record| record.seq < 3).await;
        check(AuditQuery { limit: 2, ..any.clone() }, &|record| record.seq <= 2).await;
        let newest = database.store.records(&AuditQuery { newest_first: true, limit: 2, ..any.clone() }).await.unwrap();
        assert_eq!(seqs(&newest), [31, 30]);
        let none = AuditQuery { organizations: Some(Vec::new()), ..any };
        assert_eq!(database.store.records(&none).await.unwrap(), []);
    }

    async fn a_whole_chain_is_verified_while_it_grows(database) {
        fill(&database.store, 0..600).await;
        let (store, other) = (database.store.clone(), database.store.clone());
        let (_, verdict) = futures::join!(fill(&store, 600..900), async { other.verify(None).await.unwrap() });
        assert!(matches!(verdict, Verdict::Sound { records: 600..=900, .. }), "{verdict:?}");
        assert_sound(&store, 900).await;
    }

    async fn what_was_handed_over_is_recorded_though_nobody_waits(database) {
        assert!(database.store.append(draft(1)).now_or_never().is_none());
        assert_eq!(database.store.append(draft(2)).await.unwrap().seq, 2);
        assert_sound(&database.store, 2).await;
    }

    async fn a_closed_store_says_so(database) {
        let copy = database.store.clone();
        let last = database.store.append(draft(1));
        let (last, ()) = futures::join!(last, database.store.close());
        last.unwrap();
        assert!(matches!(copy.append(draft(2)).await, Err(StoreError::Unavailable(_))));
        assert!(matches!(copy.head().await, Err(StoreError::Unavailable(_))));
        assert_sound(&Store::open(&database.url).await.unwrap(), 1).await;
    }
}

#[tokio::test]
async fn the_same_records_have_the_same_hashes_on_both() {
    let (sqlite, postgres) = (Database::sqlite().await, Database::postgres().await);
    for number in 0..20 {
        let (one, other) = futures::join!(sqlite.store.append(draft(number)), postgres.store.append(draft(number)));
        assert_eq!(one.unwrap(), other.unwrap());
    }
    assert_eq!(sqlite.store.head().await.unwrap(), postgres.store.head().await.unwrap());
}
