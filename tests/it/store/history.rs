//! The history of ended sessions.

use std::collections::BTreeSet;

use berth::store::StoreError;
use berth::store::history::{EndedSession, HistoryQuery, Scope};
use serde_json::json;

use super::{Database, Dice, at, on_both};

fn ended(number: u64) -> EndedSession {
    let second = i64::try_from(number).unwrap();
    EndedSession {
        uid: format!("uid-{number:05}"),
        namespace: format!("team-{}", number % 4),
        name: format!("session-{number}"),
        user: format!("user-{}", number % 3),
        workspace: format!("desk-{}", number % 2),
        workspace_type: Some("desktop".to_owned()),
        phase: "Terminated".to_owned(),
        reason: Some("MaxDuration".to_owned()),
        // Several begin at once.
        started_at: at(second / 3),
        ended_at: at(second + 60),
        object: json!({ "metadata": { "name": format!("session-{number}") } }),
    }
}

fn everywhere() -> Vec<Scope> {
    (0..4).map(|team| Scope::Namespace(format!("team-{team}"))).collect()
}

fn uids(sessions: &[EndedSession]) -> Vec<&str> {
    sessions.iter().map(|session| session.uid.as_str()).collect()
}

on_both! {
    async fn a_session_is_kept_as_it_was(database) {
        let session = EndedSession {
            user: "Zoë 🚢 'quoted\"".to_owned(),
            workspace_type: None,
            reason: None,
            object: json!({ "b": [1, -1, u64::MAX, 0.5, null, true], "a": { "nul": "\u{0}", "é": "e\u{301}" } }),
            ..ended(1)
        };
        database.store.keep(std::slice::from_ref(&session)).await.unwrap();
        assert_eq!(database.store.session("uid-00001").await.unwrap(), Some(session));
        assert_eq!(database.store.session("uid-00002").await.unwrap(), None);
    }

    async fn an_end_is_written_once(database) {
        database.store.keep(&[ended(1)]).await.unwrap();
        let other = EndedSession { phase: "Failed".to_owned(), ended_at: at(999), object: json!("longer".repeat(99)), ..ended(1) };
        database.store.keep(&[other, ended(1)]).await.unwrap();
        assert_eq!(database.store.session("uid-00001").await.unwrap(), Some(ended(1)));
    }

    async fn a_longer_record_of_the_same_end_is_filled_in(database) {
        let long = EndedSession { object: json!({ "metadata": {}, "status": "s".repeat(99) }), ..ended(1) };
        database.store.keep(&[ended(1), long.clone(), ended(1)]).await.unwrap();
        assert_eq!(database.store.session("uid-00001").await.unwrap(), Some(long));
    }

    async fn all_are_kept_or_none(database) {
        let deep = (0..200).fold(json!(null), |inner, _| json!([inner]));
        let sessions = [ended(1), EndedSession { object: deep, ..ended(2) }];
        assert!(matches!(database.store.keep(&sessions).await, Err(StoreError::Invalid(_))));
        assert_eq!(database.store.session("uid-00001").await.unwrap(), None);
    }

    async fn pages_meet_without_a_gap_and_newest_first(database) {
        let all: Vec<_> = (0..100).map(ended).collect();
        database.store.keep(&all).await.unwrap();
        let mut wanted: Vec<_> = all.iter().collect();
        wanted.sort_by_key(|session| std::cmp::Reverse((session.started_at, session.uid.clone())));
        let mut found = Vec::new();
        let mut query = HistoryQuery { scopes: everywhere(), limit: 7, ..HistoryQuery::default() };
        loop {
            let page = database.store.sessions(&query).await.unwrap();
            let Some(last) = page.last() else { break };
            query.before = Some(last.cursor());
            found.extend(page);
        }
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted);
    }

    async fn nobody_sees_what_is_in_none_of_their_scopes(database) {
        let all: Vec<_> = (0..200).map(ended).collect();
        database.store.keep(&all).await.unwrap();
        let mut dice = Dice(7);
        for _ in 0..100 {
            let mut scopes = Vec::new();
            for _ in 0..dice.below(4) {
                let (user, team) = (format!("user-{}", dice.below(4)), format!("team-{}", dice.below(5)));
                scopes.push(match dice.below(3) {
                    0 => Scope::Namespace(team),
                    1 => Scope::UserIn(team, user),
                    _ => Scope::User(user),
                });
            }
            let workspace = (dice.below(2) == 0).then(|| format!("desk-{}", dice.below(2)));
            let since = (dice.below(2) == 0).then(|| at(10));
            let until = (dice.below(2) == 0).then(|| at(50));
            let wanted: BTreeSet<_> = all
                .iter()
                .filter(|session| {
                    scopes.iter().any(|scope| {
                        match scope {
                            Scope::Namespace(namespace) => *namespace == session.namespace,
                            Scope::UserIn(namespace, user) => *namespace == session.namespace && *user == session.user,
                            Scope::User(user) => *user == session.user,
                        }
                    })
                })
                .filter(|session| workspace.as_ref().is_none_or(|workspace| *workspace == session.workspace))
                .filter(|session| since.is_none_or(|since| session.started_at >= since))
                .filter(|session| until.is_none_or(|until| session.started_at < until))
                .map(|session| session.uid.clone())
                .collect();
            let query = HistoryQuery { scopes, workspace, since, until, limit: 500, ..HistoryQuery::default() };
            let found = database.store.sessions(&query).await.unwrap();
            assert_eq!(found.into_iter().map(|session| session.uid).collect::<BTreeSet<_>>(), wanted, "{query:?}");
        }
    }

    async fn a_phase_is_asked_for(database) {
        let failed = EndedSession { phase: "Failed".to_owned(), ..ended(1) };
        database.store.keep(&[failed, ended(2)]).await.unwrap();
        let phase = Some("Failed".to_owned());
        let query = HistoryQuery { scopes: everywhere(), phase, limit: 9, ..HistoryQuery::default() };
        assert_eq!(uids(&database.store.sessions(&query).await.unwrap()), ["uid-00001"]);
    }

    async fn thousands_of_scopes_are_one_question(database) {
        database.store.keep(&[ended(0), ended(1)]).await.unwrap();
        let mut scopes: Vec<_> = (0..1500).map(|number| Scope::UserIn(format!("n-{number}"), "user-1".to_owned())).collect();
        scopes.extend((0..1500).map(|number| Scope::Namespace(format!("m-{number}"))));
        scopes.push(Scope::UserIn("team-1".to_owned(), "user-1".to_owned()));
        let query = HistoryQuery { scopes, limit: 9, ..HistoryQuery::default() };
        assert_eq!(uids(&database.store.sessions(&query).await.unwrap()), ["uid-00001"]);
    }

    async fn what_ended_before_a_time_is_forgotten(database) {
        let all: Vec<_> = (0..1200).map(ended).collect();
        database.store.keep(&all).await.unwrap();
        assert_eq!(database.store.forget_before(at(60 + 1100)).await.unwrap(), 1100);
        assert_eq!(database.store.forget_before(at(60 + 1100)).await.unwrap(), 0);
        let query = HistoryQuery { scopes: everywhere(), limit: 500, ..HistoryQuery::default() };
        assert_eq!(database.store.sessions(&query).await.unwrap().len(), 100);
    }

    async fn a_nul_is_neither_a_failure_nor_another_user(database) {
        let odd = EndedSession { user: "user\0".to_owned(), ..ended(1) };
        database.store.keep(&[odd]).await.unwrap();
        let see = async |user: &str| {
            let query = HistoryQuery { scopes: vec![Scope::UserIn("team-1".to_owned(), user.to_owned())], limit: 9, ..HistoryQuery::default() };
            database.store.sessions(&query).await.unwrap().len()
        };
        assert_eq!((see("user").await, see("user\0").await), (0, 1));
    }
}
