//! How long the API server may be silent before a connection counts as broken. A connection whose far end has vanished
//! without a word never fails by itself: a list would be waited for, and a watch be listened to, for ever. Owns the two
//! limits; single calls have shorter ones of their own in `error`.

use std::time::Duration;

use tower::layer::util::Stack;
use tower::timeout::TimeoutLayer;
use tower_http::timeout::ResponseBodyTimeoutLayer;

/// Until the head of an answer has come.
const HEAD: Duration = Duration::from_secs(30);
/// Between two pieces of an answer. A watch to which nothing happens has a bookmark every minute.
const PIECE: Duration = Duration::from_secs(150);

/// The limits, as a layer around the connection.
pub fn layer() -> Stack<ResponseBodyTimeoutLayer, TimeoutLayer> {
    Stack::new(ResponseBodyTimeoutLayer::new(PIECE), TimeoutLayer::new(HEAD))
}
