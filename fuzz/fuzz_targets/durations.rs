//! durations as people write them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::api::fuzzing::durations(data));
