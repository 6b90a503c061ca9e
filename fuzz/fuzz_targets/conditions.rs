//! sets of conditions, and what follows them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::api::fuzzing::conditions(data));
