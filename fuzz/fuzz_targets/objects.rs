//! objects of each kind that is read.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::api::fuzzing::objects(data));
