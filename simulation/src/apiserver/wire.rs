//! What may befall a watch on its way. Owns the interface; what happens to whom, and when, is a simulation's.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::call::Call;

/// Gives each watch its wire.
pub trait Wires: Send + Sync {
    /// The wire of a watch that begins with this request.
    fn open(&self, _watch: &Call) -> Arc<dyn Wire> {
        Arc::new(Clean)
    }
}

/// The way of one watch's frames to its client. Frames stay in their order: one that waits holds up all behind it.
pub trait Wire: Send + Sync {
    /// What becomes of this frame. Awaiting in it delays the frame.
    fn pass(&self, _frame: &Frame) -> BoxFuture<'static, Passage> {
        Box::pin(async { Passage::Deliver })
    }

    /// Returns when the watch is to end, whatever is on its way.
    fn end(&self) -> BoxFuture<'static, End> {
        Box::pin(futures::future::pending())
    }
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It arrives.
    Deliver,
    /// It is lost, and the stream goes on.
    Drop,
    /// It is lost, and the stream ends.
    End(End),
}

/// How a watch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order, as when its time is over or the API server stops.
    Close,
    /// The connection breaks.
    Break,
    /// With an event ERROR of the code 410: what it would watch from is compacted.
    Expire,
}

/// One frame of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub event: &'static str,
    /// The object's namespace, empty where it has none.
    pub namespace: String,
    /// The object's name, empty for a bookmark and an error.
    pub name: String,
    /// The resource version that the client knows of afterwards.
    pub revision: u64,
}

/// Nothing happens to frames, or to any watch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clean;

impl Wire for Clean {}

impl Wires for Clean {}
