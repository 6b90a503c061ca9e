//! the configuration file and the collector's URL.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::settings::fuzzing::settings(data));
