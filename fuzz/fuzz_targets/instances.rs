//! what a pod says of an instance, and the trace of a launch.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::plan::fuzzing::instances(data));
