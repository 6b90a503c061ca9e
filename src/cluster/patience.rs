//! How long the API server may be silent before a connection counts as broken. A connection whose far end has vanished
//! without a word never fails by itself: a list would be waited for, and a watch be listened to, for ever. Owns the two
//! limits; single calls have shorter ones of their own in `error`.

use std::time::Duration;

use tower::layer::util::Stack;
use tower::timeout::TimeoutLayer;
use tower_http::timeout::ResponseBodyTimeoutLayer;

use crate::planted::{self, Bug};

/// Until the head of an answer has come.
const HEAD: Duration = Duration::from_secs(30);
/// Between two pieces of an answer. A watch to which nothing happens has a bookmark every minute.
const PIECE: Duration = Duration::from_secs(150);

/// Longer than anybody waits.
const EVER: Duration = Duration::from_secs(1_000_000);

/// The limits, as a layer around the connection.
pub fn layer() -> Stack<ResponseBodyTimeoutLayer, TimeoutLayer> {
    let (piece, head) = if planted::is(Bug::NoPatience) { (EVER, EVER) } else { (PIECE, HEAD) };
    Stack::new(ResponseBodyTimeoutLayer::new(piece), TimeoutLayer::new(head))
}
