//! What may befall a request on its way. Owns the interface; what happens to whom, and when, is a simulation's.

use futures::future::BoxFuture;

use super::call::Call;
use super::refusal::Refusal;

/// Decides about each request. Both decisions are futures: awaiting in them delays the request, or holds it until
/// something else has happened. What they say must follow from the seed alone.
pub trait Fate: Send + Sync {
    /// Before the store is touched.
    fn before(&self, _call: &Call) -> BoxFuture<'static, Before> {
        Box::pin(async { Before::Pass })
    }

    /// After the store was touched, before the answer goes out. Of a watch: before its first frame.
    fn after(&self, _call: &Call, _outcome: &Outcome) -> BoxFuture<'static, After> {
        Box::pin(async { After::Deliver })
    }
}

/// What befalls a request before the store is touched.
#[derive(Clone, Debug, PartialEq)]
pub enum Before {
    /// It is done.
    Pass,
    /// It is done twice, as by something between that repeats it; the answer is the second one's.
    Twice,
    /// It is not done, and answered by this.
    Refuse(Refusal),
    /// It is not done, and the connection breaks.
    Disconnect,
    /// It is not done, and never answered.
    Hang,
}

/// What befalls an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum After {
    /// It arrives.
    Deliver,
    /// This arrives in its place.
    Replace(Refusal),
    /// The connection breaks.
    Disconnect,
    /// Nothing ever arrives.
    Hang,
}

/// What became of a request at the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The HTTP status.
    pub code: u16,
    /// The reason of a refusal, such as `Conflict`.
    pub reason: Option<String>,
    /// The revision of the store afterwards.
    pub revision: u64,
    /// Whether this request has changed the store.
    pub changed: bool,
}

/// No faults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kind;

impl Fate for Kind {}
