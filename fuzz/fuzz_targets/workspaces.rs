//! the planner of Workspaces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth::plan::fuzzing::workspaces::workspaces(data));
