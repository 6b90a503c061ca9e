//! leases that another wrote.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::cluster::lease::fuzzing::leases(data));
