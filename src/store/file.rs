//! The file of a SQLite store: made if it is missing, and watched for being another one. Where somebody deletes or
//! replaces it, SQLite goes on writing into a file without a name: what it acknowledged would be gone with the process.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::StoreError;

/// A file, by what it is and not by its name.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    path: Arc<Path>,
    device_and_inode: (u64, u64),
}

impl Identity {
    /// The file that has this path now; a new one that only its owner may read if there is none.
    pub async fn of(path: &str) -> Result<Self, StoreError> {
        let refused = |why: &str| Err(StoreError::Refused(format!("{path:?} {why}")));
        match path {
            "" => return refused("names no file"),
            // SQLite would take these for something else than the name of a file.
            _ if path.starts_with(':') || path.starts_with("file:") || path.contains('\0') => {
                return refused("is not the path of a file");
            }
            _ => {}
        }
        let device_and_inode = look(path.into(), true).await.map_err(|error| StoreError::Refused(error.to_string()))?;
        Ok(Self { path: Path::new(path).into(), device_and_inode })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses to go on where the path leads to another file, or to none.
    pub async fn check(&self) -> Result<(), StoreError> {
        match look(self.path.to_path_buf(), false).await {
            Ok(found) if found == self.device_and_inode => Ok(()),
            Ok(_) => Err(StoreError::Unavailable("it was replaced by another file since it was opened".to_owned())),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }
}

/// The device and the inode behind a path: on a thread that may wait, as a volume may hang.
async fn look(path: PathBuf, make: bool) -> Result<(u64, u64), Error> {
    let look = move || {
        // A file that stands is never opened here: closing it would let go of this process's locks on it.
        if make && !path.exists() {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let found = std::fs::metadata(&path)?;
        if found.is_dir() { Err(Error::from(ErrorKind::IsADirectory)) } else { Ok((found.dev(), found.ino())) }
    };
    tokio::task::spawn_blocking(look).await.map_err(Error::other)?
}
