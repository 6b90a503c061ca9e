//! what watches bring, in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::cluster::watch::fuzzing::watches(data));
