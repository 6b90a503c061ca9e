//! Opening a store: what is said where it cannot be opened, and that what was written is there afterwards.

use std::os::unix::fs::PermissionsExt;

use berth::store::{Store, StoreError};

use super::{Database, Directory, draft, fill, on_both};
use crate::postgres::{PASSWORD, Server};

async fn refused(url: &str) -> StoreError {
    Store::open(url).await.unwrap_err()
}

async fn server() -> &'static Server {
    tokio::task::spawn_blocking(Server::shared).await.unwrap()
}

on_both! {
    async fn what_was_written_is_there_after_a_restart(database) {
        fill(&database.store, 0..5).await;
        let head = database.store.head().await.unwrap();
        database.store.close().await;
        let store = Store::open(&database.url).await.unwrap();
        assert_eq!(store.head().await.unwrap(), head);
        assert_eq!(store.append(draft(6)).await.unwrap().seq, 6);
    }

    async fn a_schema_of_a_later_version_is_left_alone(database) {
        let mut raw = database.raw().await;
        raw.execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT 99, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
        )
        .await;
        let error = refused(&database.url).await;
        assert_eq!(error, StoreError::Newer { found: 99, known: 1 });
        assert!(error.to_string().contains("later version of Berth"), "{error}");
    }

    async fn a_schema_that_is_not_ours_is_left_alone(database) {
        let mut raw = database.raw().await;
        raw.execute("UPDATE _sqlx_migrations SET checksum = 'abc'").await;
        assert!(matches!(refused(&database.url).await, StoreError::Corrupt(_)));
    }

    async fn many_may_open_it_at_once(database) {
        let opened = futures::future::join_all((0..8).map(|_| Store::open(&database.url))).await;
        assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_make_the_same_new_file() {
    for _ in 0..10 {
        let directory = Directory::new();
        let url = format!("sqlite:{}", directory.join("berth.db").display());
        let opens = (0..6).map(|_| {
            let url = url.clone();
            tokio::spawn(async move { Store::open(&url).await })
        });
        for opened in futures::future::join_all(opens).await {
            opened.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_url_that_names_no_store_is_refused_without_being_repeated() {
    for url in ["", "berth.db", "mysql://user:secret@host/x", "secret", "sqlite:", "sqlite::memory:", "sqlite:file:x"] {
        let error = refused(url).await;
        assert!(matches!(error, StoreError::Refused(_)), "{url}: {error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let error = refused("postgres://user:secret@host:99999999/x").await;
    assert!(matches!(error, StoreError::Refused(_)) && !error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_new_file_is_for_its_owner_alone() {
    let directory = Directory::new();
    let path = directory.join("berth.db");
    let store = Store::open(&format!("sqlite://{}", path.display())).await.unwrap();
    store.append(draft(1)).await.unwrap();
    for name in ["berth.db", "berth.db-wal"] {
        assert_eq!(std::fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_one_is_named() {
    let directory = Directory::new();
    let path = directory.join("berth.db");
    let url = format!("sqlite:{}", path.display());
    let words = refused(&format!("sqlite:{}/none/berth.db", directory.as_ref().display())).await;
    assert!(matches!(&words, StoreError::Refused(why) if why.contains("No such file or directory")), "{words:?}");
    let words = refused(&format!("sqlite:{}", directory.as_ref().display())).await;
    assert!(matches!(&words, StoreError::Refused(why) if why.contains("directory")), "{words:?}");
    std::fs::write(&path, "This is a letter and not a database. ".repeat(99)).unwrap();
    let words = refused(&url).await;
    assert!(matches!(&words, StoreError::Corrupt(why) if why.contains("berth.db")), "{words:?}");
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_shown() {
    let server = server().await;
    let right = Store::open(&server.at_port(PASSWORD, "postgres")).await.unwrap();
    assert!(!format!("{right:?}").contains(PASSWORD), "{right:?}");
    right.close().await;
    let words = refused(&server.at_port("wr0ng-secret", "postgres")).await;
    assert!(matches!(&words, StoreError::Refused(why) if why.contains("password")), "{words:?}");
    assert!(!format!("{words} {words:?}").contains("wr0ng"), "{words}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_refused_and_a_server_that_is_not_there_is_unavailable() {
    let server = server().await;
    let words = refused(&server.at_port(PASSWORD, "no_such_database")).await;
    assert!(matches!(&words, StoreError::Refused(why) if why.contains("no_such_database")), "{words:?}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let words = refused(&format!("postgres://u:secret@127.0.0.1:{port}/x")).await;
    assert!(words.is_unavailable() && !words.to_string().contains("secret"), "{words:?}");
}

#[tokio::test]
async fn a_database_that_cannot_hold_all_text_is_refused() {
    let server = server().await;
    let url = tokio::task::spawn_blocking(|| server.database("ENCODING 'LATIN1' LOCALE 'C'")).await.unwrap();
    let words = refused(&url).await;
    assert!(matches!(&words, StoreError::Refused(why) if why.contains("LATIN1")), "{words:?}");
}
