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
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_kept_input_still_passes() {
        let mut failed = Vec::new();
        for (name, body) in TARGETS {
            for kept in ["seeds", "corpus"] {
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kept).join(name);
                let entries =
                    std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
                let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
                assert!(!files.is_empty(), "nothing is kept in {}", folder.display());
                for file in files {
                    let input = std::fs::read(&file).unwrap();
                    // What was wrong is printed; the other inputs are tried all the same.
                    if std::panic::catch_unwind(|| body(&input)).is_err() {
                        failed.push(file);
                    }
                }
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
