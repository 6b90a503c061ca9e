//! What was kept of earlier inputs, tried by the ordinary tests of each crate that has fuzz targets.

use std::path::{Path, PathBuf};

use super::Target;

/// The kept inputs of these targets that make their body fail; `folder` is `fuzz/`.
pub fn failing(targets: &[Target], folder: &Path) -> Vec<PathBuf> {
    let mut failed = Vec::new();
    for (name, body) in targets {
        for kept in ["seeds", "corpus"] {
            let folder = folder.join(kept).join(name);
            let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
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
    failed
}
