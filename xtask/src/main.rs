//! Placeholder while the first commands are written.
fn main() {}
