//! A stream of one's own sessions: a snapshot, then each change, and a heartbeat between. Who reads too slowly is given a new
//! snapshot; nobody else waits for them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt, stream};
use prometheus_client::metrics::gauge::Gauge;
use serde_json::json;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, interval_at};

use crate::gateway::Gateway;
use crate::gateway::asker::Asker;
use crate::gateway::board::{Change, Heard};
use crate::gateway::problem::Detail;

/// How long a stream may be silent.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often it is asked whether the token still is good.
const AGAIN: Duration = Duration::from_secs(30);

/// By this, proxies pass events on as they come.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The caller's sessions as they change
///
/// `text/event-stream`: an event `snapshot` with all that have a resource, then `session` for each that is new or has
/// changed and `removed` for each whose resource is gone. Every event has an id; with `Last-Event-ID` a stream goes on there, or
/// begins with a new snapshot where that is too long ago. Comments keep the connection alive.
#[utoipa::path(get, path = "/api/sessions/events", tag = "sessions", security(("token" = [])),
    params(("Last-Event-ID" = Option<String>, Header, description = "the id of the last event that was read")), responses(
    (status = 200, body = String, content_type = "text/event-stream"), (status = 401, body = Detail),
    (status = 429, body = Detail), (status = 503, body = Detail),
))]
pub async fn events(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    headers: HeaderMap,
) -> ([(HeaderName, &'static str); 1], Sse<impl Stream<Item = Result<Event, Infallible>>>) {
    let since = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let user = asker.caller.username.clone();
    let Heard { last, missed, changes } = gateway.board.listen(&user, since);
    let begin: Vec<Event> = match missed {
        Some(missed) => missed.into_iter().map(|change| told(&gateway, &change)).collect(),
        None => vec![snapshot(&gateway, &user, last)],
    };
    let listener = Listener {
        stopping: gateway.stopping.clone(),
        again: interval_at(Instant::now() + AGAIN, AGAIN),
        _counted: Counted::new(&gateway.metrics.streams),
        gateway,
        user,
        headers,
        changes,
    };
    let rest = stream::unfold(listener, |mut listener| async move { Some((listener.next().await?, listener)) });
    let events = stream::iter(begin).chain(rest).map(Ok);
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("still here"));
    ([(UNBUFFERED, "no")], stream)
}

/// Who listens.
struct Listener {
    gateway: Arc<Gateway>,
    user: String,
    headers: HeaderMap,
    changes: Receiver<Change>,
    stopping: watch::Receiver<bool>,
    again: Interval,
    _counted: Counted,
}

impl Listener {
    /// The next event; nothing where the stream is over.
    async fn next(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                // The client comes back, to this replica or to another.
                () = told_to_stop(&mut self.stopping) => return None,
                _ = self.again.tick() => {
                    // A token that was taken back opens this no longer than others.
                    self.gateway.callers.of(&self.headers, true, || Ok(())).await.ok()?;
                }
                change = self.changes.recv() => match change {
                    Ok(change) => return Some(told(&self.gateway, &change)),
                    Err(RecvError::Lagged(_)) => {
                        // What is told anew has everything up to now: what waits is told twice at most.
                        let anew = self.gateway.board.listen(&self.user, None);
                        self.changes = anew.changes;
                        return Some(snapshot(&self.gateway, &self.user, anew.last));
                    }
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }
}

async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// A stream that is open, as it is counted.
struct Counted(Gauge);

impl Counted {
    fn new(streams: &Gauge) -> Self {
        streams.inc();
        Self(streams.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn snapshot(gateway: &Gateway, user: &str, number: u64) -> Event {
    let mut own = gateway.board.sessions_of(user);
    own.sort_by_key(|session| std::cmp::Reverse(crate::gateway::filter::Place::of(session)));
    event(gateway, "snapshot", number, &json!(gateway.views(&own)))
}

fn told(gateway: &Gateway, change: &Change) -> Event {
    match &change.session {
        Some(session) => event(gateway, "session", change.number, &json!(gateway.view(session))),
        None => event(gateway, "removed", change.number, &json!({ "id": change.uid })),
    }
}

fn event(gateway: &Gateway, kind: &str, number: u64, data: &serde_json::Value) -> Event {
    Event::default().event(kind).id(gateway.board.mark(number)).data(data.to_string())
}
