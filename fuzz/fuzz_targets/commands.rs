//! the plugin's command line, and what it prints of what others wrote.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::cli::fuzzing::commands(data));
