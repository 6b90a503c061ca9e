//! objects that our definitions admit, and what the operator writes about them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_simulation::fuzzing::schemas(data));
