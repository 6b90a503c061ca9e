//! the planner of sessions, in any world that can be read.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::plan::fuzzing::sessions::sessions(data));
