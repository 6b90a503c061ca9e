//! The planner against a world that does what the plans say: what a session lives through, told as sentences,
//! and properties that hold whatever happens in whatever order.

mod ending;
mod launching;
mod life;
mod limits;
mod properties;
mod staying;
mod warm;
mod watched;
