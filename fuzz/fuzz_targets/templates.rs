//! templates of pods.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::plan::fuzzing::templates(data));
