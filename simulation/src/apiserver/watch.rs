//! Watches. Owns where one begins, the order of its frames, bookmarks and its end; what may befall it on its way is
//! `wire`'s.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::call::Call;
use super::meta::{outgoing, text};
use super::read::revision_of;
use super::refusal::{Cause, Refusal};
use super::selector::Selector;
use super::store::Change;
use super::wire::{End, Frame, Passage, Wire};
use super::{ApiServer, Disconnected, State};

/// How often a quiet watch is told where it stands.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end a watch is told where it stands.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// How long a watch lasts that does not say so, at least.
const LASTS: u64 = 1800;

/// A frame with what goes over the wire; without a body when it only moves the cursor.
type Item = (Frame, Bytes);

/// A watch, before its first frame.
pub(super) struct Plan {
    call: Call,
    selector: Selector,
    /// Up to which revision its client knows.
    cursor: u64,
    ready: VecDeque<Item>,
    lasts: Duration,
    bookmarks: bool,
    /// It ends after what is ready: with an error.
    over: bool,
}

/// Begins a watch: fixes what it is of, and its first frames.
///
/// # Errors
/// When it cannot be understood. That its beginning is compacted is told within it, as real API servers do.
pub(super) fn begin(state: &mut State, call: &Call) -> Result<Plan, Refusal> {
    let part = |name: &str| call.query.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let is = |name: &str| part(name).is_some_and(|value| value == "true" || value == "1");
    let selector = Selector::of(call)?;
    let asked = part("resourceVersion").map(revision_of).transpose()?;
    let initial = part("sendInitialEvents").map(|value| value == "true" || value == "1");
    match (initial, part("resourceVersionMatch")) {
        (Some(_), Some("NotOlderThan")) | (None, None) => {}
        (Some(_), _) => {
            return Err(forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        (None, Some(_)) => {
            return Err(forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
    }
    let seconds = part("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).filter(|seconds| *seconds > 0);
    let seconds = seconds.unwrap_or_else(|| LASTS + state.dice.below(LASTS));
    let mut plan = Plan {
        call: call.clone(),
        selector,
        cursor: state.store.revision(),
        ready: VecDeque::new(),
        lasts: Duration::from_secs(seconds),
        bookmarks: is("allowWatchBookmarks"),
        over: false,
    };
    let from = match (asked, initial) {
        (None | Some(0), Some(false)) => None,
        (None | Some(0), _) | (Some(_), Some(true)) => {
            plan.ready_initial(state);
            if initial == Some(true) && plan.bookmarks {
                plan.ready.push_back(plan.bookmark(true));
            }
            None
        }
        (Some(revision), _) => Some(revision),
    };
    if let Some(revision) = from {
        if revision < state.store.compacted() {
            plan.ready
                .push_back(expired(&format!("too old resource version: {revision} ({})", state.store.compacted())));
            plan.over = true;
        }
        plan.cursor = revision;
    }
    Ok(plan)
}

fn forbidden(field: &str, words: &str) -> Refusal {
    let message = format!("Forbidden: {words}");
    Refusal::invalid(
        "ListOptions",
        "meta.k8s.io",
        "",
        &[Cause { reason: "FieldValueForbidden", field: field.to_owned(), message }],
    )
}

impl Plan {
    fn ready_initial(&mut self, state: &State) {
        let resource = self.call.kind.resource();
        for (_, object) in state.store.all(&resource).filter(|(_, object)| self.selector.selects(object)) {
            let revision = text(object, "/metadata/resourceVersion").parse().unwrap_or_default();
            self.ready.push_back(self.event("ADDED", object, revision));
        }
    }

    /// Reads on in the history.
    fn read_on(&mut self, state: &State) {
        let resource = self.call.kind.resource();
        for change in state.store.since(self.cursor).iter().filter(|change| change.key.resource == resource) {
            if let Some(item) = self.told(change) {
                self.ready.push_back(item);
            }
        }
        self.cursor = self.cursor.max(state.store.revision());
    }

    /// What this watch is told of a change: an object that is selected no more is as good as deleted.
    fn told(&self, change: &Change) -> Option<Item> {
        let selected = |object: &Option<Arc<Value>>| object.clone().filter(|object| self.selector.selects(object));
        match (selected(&change.before), selected(&change.after)) {
            (None, None) => None,
            (None, Some(after)) => Some(self.event("ADDED", &after, change.revision)),
            (Some(_), Some(after)) => Some(self.event("MODIFIED", &after, change.revision)),
            (Some(before), None) => {
                let mut last = Value::clone(&before);
                last["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                Some(self.event("DELETED", &last, change.revision))
            }
        }
    }

    fn event(&self, event: &'static str, object: &Value, revision: u64) -> Item {
        let frame = Frame {
            event,
            namespace: text(object, "/metadata/namespace").to_owned(),
            name: text(object, "/metadata/name").to_owned(),
            revision,
        };
        (frame, line(event, &outgoing(&self.call, object)))
    }

    /// Where the watch stands.
    fn bookmark(&self, ends_initial: bool) -> Item {
        let mut metadata = json!({ "resourceVersion": self.cursor.to_string(), "creationTimestamp": null });
        if ends_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let kind = &self.call.kind;
        let object = match self.call.metadata_only {
            true => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
            false => json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata}),
        };
        let frame = Frame { event: "BOOKMARK", namespace: String::new(), name: String::new(), revision: self.cursor };
        (frame, line("BOOKMARK", &object))
    }
}

/// The frame of a watch that cannot go on from where it is.
fn expired(message: &str) -> Item {
    let frame = Frame { event: "ERROR", namespace: String::new(), name: String::new(), revision: 0 };
    (frame, line("ERROR", &Refusal::expired(message).status()))
}

fn line(event: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{{\"type\":\"{event}\",\"object\":{object}}}\n"))
}

/// A watch under way.
struct Stream {
    server: ApiServer,
    plan: Plan,
    wire: Arc<dyn Wire>,
    end: BoxFuture<'static, End>,
    deadline: Instant,
    next_bookmark: Option<Instant>,
    /// What is left to do is to end.
    closed: bool,
}

/// The frames of a watch, from its first to its end.
pub(super) fn stream(
    server: ApiServer,
    plan: Plan,
    wire: Arc<dyn Wire>,
) -> BoxStream<'static, Result<Bytes, Disconnected>> {
    let deadline = Instant::now() + plan.lasts;
    let mut stream = Stream { server, end: wire.end(), wire, deadline, next_bookmark: None, closed: false, plan };
    stream.next_bookmark = stream.bookmark_after(Instant::now());
    stream::unfold(stream, |mut stream| async move { stream.next().await.map(|item| (item, stream)) }).boxed()
}

impl Stream {
    /// What arrives next; nothing when the watch has ended.
    async fn next(&mut self) -> Option<Result<Bytes, Disconnected>> {
        while !self.closed {
            let end = &mut self.end;
            let wire = Arc::clone(&self.wire);
            let frame = frame(&self.server, &mut self.plan, &mut self.next_bookmark, self.deadline);
            let arrives = async {
                let (frame, bytes) = frame.await?;
                Some((wire.pass(&frame).await, bytes))
            };
            let ended = tokio::select! {
                biased;
                end = end => end,
                arrived = arrives => match arrived {
                    Some((Passage::Deliver, bytes)) => return Some(Ok(bytes)),
                    Some((Passage::Drop, _)) => continue,
                    Some((Passage::End(end), _)) => end,
                    None => End::Close,
                },
            };
            self.closed = true;
            match ended {
                End::Close => {}
                End::Break => return Some(Err(Disconnected)),
                End::Expire => return Some(Ok(expired("The resourceVersion for the provided watch is too old.").1)),
            }
        }
        None
    }

    fn bookmark_after(&self, now: Instant) -> Option<Instant> {
        self.plan.bookmarks.then(|| bookmark_after(now, self.deadline))
    }
}

/// When the next bookmark is due: in a while, or just before the end.
fn bookmark_after(now: Instant, deadline: Instant) -> Instant {
    let last = deadline.checked_sub(BOOKMARK_BEFORE_END).filter(|last| *last > now).unwrap_or(deadline);
    last.min(now + BOOKMARK_EVERY)
}

/// The next frame; nothing when the time of the watch is over.
async fn frame(
    server: &ApiServer,
    plan: &mut Plan,
    next_bookmark: &mut Option<Instant>,
    deadline: Instant,
) -> Option<Item> {
    loop {
        let changed = server.changed().notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if plan.ready.is_empty() && !plan.over {
            plan.read_on(&server.lock());
        }
        if let Some(item) = plan.ready.pop_front() {
            return Some(item);
        }
        if plan.over {
            return None;
        }
        let due = next_bookmark.unwrap_or(deadline).min(deadline);
        tokio::select! {
            biased;
            () = changed => {}
            () = sleep_until(due) => {
                let now = Instant::now();
                if now >= deadline {
                    return None;
                }
                *next_bookmark = Some(bookmark_after(now, deadline));
                return Some(plan.bookmark(false));
            }
        }
    }
}
