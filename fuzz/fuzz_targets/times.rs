//! times as Kubernetes and we read them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::api::fuzzing::times(data));
