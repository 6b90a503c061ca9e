//! refusals of an API server.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::cluster::fuzzing::answers(data));
