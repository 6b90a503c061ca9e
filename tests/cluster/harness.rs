//! What every test of this suite stands on: the connection, a namespace for each test, builders, and waiting. It
//! owns the one bound for waiting, and what is printed when that has passed.

pub mod api;
mod build;
mod forward;
mod record;
mod scene;

pub use build::*;
pub use forward::Forward;
pub use scene::{Kind, Scene};
