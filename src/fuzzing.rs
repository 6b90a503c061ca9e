//! The fuzz targets: for everything that reads what others wrote, a body that takes any bytes and fails where what it
//! promises does not hold. Each body is beside the code that it tries. This file owns the list, and that every kept
//! input still passes; libFuzzer's entries are in `fuzz/`.

use crate::{api, cli, cluster, plan, settings};

/// A body, by the name of its target.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, by the name under which `fuzz/` has its entry, its seeds and its corpus.
pub const TARGETS: [Target; 13] = [
    ("answers", cluster::fuzzing::answers),
    ("commands", cli::fuzzing::commands),
    ("conditions", api::fuzzing::conditions),
    ("durations", api::fuzzing::durations),
    ("instances", plan::fuzzing::instances),
    ("leases", cluster::lease::fuzzing::leases),
    ("objects", api::fuzzing::objects),
    ("sessions", plan::fuzzing::sessions::sessions),
    ("settings", settings::fuzzing::settings),
    ("templates", plan::fuzzing::templates),
    ("times", api::fuzzing::times),
    ("watches", cluster::watch::fuzzing::watches),
    ("workspaces", plan::fuzzing::workspaces::workspaces),
];

#[cfg(test)]
#[path = "../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_kept_input_still_passes() {
        let failed = kept::failing(&TARGETS, Path::new("fuzz"));
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
