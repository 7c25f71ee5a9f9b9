//! Code from blob stores, through `object_store`: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage,
//! and, because the same steps name them, plain HTTP and this machine's disk.
//!
//! [`Source`] is what a step or a storage block asked for, parsed and checked; [`download`] gets it. Which inputs a step has,
//! how they were templated and which block document is meant is decided by whoever calls.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use serde_json::{Map, Value};

use crate::{Interrupted, Operation, Retry};

mod ambient;
mod aws;
mod azure;
mod disk;
mod fault;
mod fetch;
mod gcs;
mod inputs;
mod key;
mod listing;
mod s3;
mod source;
mod stage;
mod transport;
mod web;

pub use ambient::Ambient;
pub use azure::Azure;
pub use disk::Disk;
pub use gcs::Gcs;
pub use s3::S3;
pub use source::{Source, SourceError, Store};
pub use web::Web;

use fault::{Fault, Kind};
use fetch::{Ended, Fetch, Remote, Tally};
use source::Placement;
use stage::Stage;
use transport::Wire;

/// How long may pass without a byte where a step says nothing; the reference's libraries wait for a minute.
const STALL: Duration = Duration::from_secs(30);

/// On what terms a pull is made.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Where credentials are looked for that the step does not bring.
    pub ambient: Ambient,
    /// How long may pass without a byte, where the step says nothing.
    pub stall: Duration,
    /// How each request is tried again.
    pub retry: Retry,
}

/// What a pull from a blob store left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// Where the files are: the given directory, or the one inside of it that the step makes.
    pub directory: PathBuf,
    /// Files written.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Objects left out, as no file below the directory can have their name; the progress named them.
    pub left_out: u64,
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
/// Ends within a second of `operation.cancelled`, and takes what it had fetched with it. Dropping the future does so too, but may leave an
/// empty hidden directory behind.
pub async fn download(
    operation: &Operation,
    source: &Source,
    into: &Path,
    terms: &Terms,
) -> Result<Downloaded, BlobError> {
    if operation.cancelled.is_cancelled() {
        return Err(Interrupted.into());
    }
    let stage = Stage::within(into)?;
    let tally = Tally::default();
    let pull = Pull {
        operation,
        source,
        into,
        terms,
        tally: &tally,
    };
    let fetched = operation
        .cancelled
        .run_until_cancelled(pull.fetch(stage.tree()))
        .await;
    let settled = match fetched {
        None => Err(Interrupted.into()),
        Some(Err(error)) => Err(error),
        Some(Ok(())) => pull.settle(&stage),
    };
    stage.discard().await;
    settled
}

/// One pull.
struct Pull<'a> {
    operation: &'a Operation,
    source: &'a Source,
    into: &'a Path,
    terms: &'a Terms,
    tally: &'a Tally,
}

// === impl Terms ===

impl Terms {
    /// The usual ones, with the environment of this process.
    pub fn of_process() -> Self {
        Self {
            ambient: Ambient::of_process(),
            stall: STALL,
            retry: Retry::default(),
        }
    }
}

// === impl Pull ===

impl Pull<'_> {
    async fn fetch(&self, tree: &Path) -> Result<(), BlobError> {
        match &self.source.store {
            Store::Web(web) => self.fetch_web(web, tree).await,
            Store::Disk(disk) => self.copy(disk, tree).await,
            Store::S3(_) | Store::Gcs(_) | Store::Azure(_) => {
                match self.fetch_objects(tree, None).await {
                    Err(Ended::Elsewhere(region)) => {
                        tracing::debug!(region, "asking the region that has the bucket");
                        let again = self.fetch_objects(tree, Some(&region)).await;
                        again.map_err(|ended| self.error(ended))
                    }
                    fetched => fetched.map_err(|ended| self.error(ended)),
                }
            }
        }
    }

    async fn fetch_objects(&self, tree: &Path, region: Option<&str>) -> Result<(), Ended> {
        let ambient = Arc::new(self.terms.ambient.clone());
        let mut retry = self.terms.retry.clone();
        let opened: Result<Arc<dyn Remote>, Fault> = match &self.source.store {
            Store::S3(s3) => {
                retry.attempts = s3.tuning.attempts.unwrap_or(retry.attempts);
                let wire = s3.wire(&ambient, self.terms.stall);
                let client = wire.and_then(|wire| transport::client(&wire));
                client.and_then(|client| Ok(Arc::new(s3.open(&ambient, &client, region)?) as _))
            }
            Store::Gcs(gcs) => {
                let client = self.client();
                client.and_then(|client| Ok(Arc::new(gcs.open(&ambient, &client)?) as _))
            }
            Store::Azure(azure) => {
                let client = self.client();
                client.and_then(|client| Ok(Arc::new(azure.open(&ambient, &client)?) as _))
            }
            Store::Web(_) | Store::Disk(_) => Err(Fault::permanent("it is no store of objects")),
        };
        let fetch = Fetch {
            operation: self.operation,
            remote: opened.map_err(|fault| Ended::Failed(self.refused(fault, 1)))?,
            prefix: &self.source.prefix,
            backslash: self.source.backslash(),
            container: self.source.container_url(),
            tree,
            target: &self.directory(),
            retry: &retry,
            tally: self.tally,
        };
        fetch.run().await?;
        let nothing = self.tally.listed.load(Relaxed) == 0 && !self.source.prefix.is_empty();
        if nothing
            && matches!(
                self.source.placement,
                Placement::Below {
                    must_exist: true,
                    ..
                }
            )
        {
            let fault = Fault::new(Kind::NotFound, "there is nothing in this folder");
            return Err(Ended::Failed(self.refused(fault, 1)));
        }
        Ok(())
    }

    /// The client of stores whose steps say nothing of connections.
    fn client(&self) -> Result<reqwest::Client, Fault> {
        transport::client(&Wire {
            roots: self.terms.ambient.read_roots(None)?,
            stall: self.terms.stall,
            ..Wire::default()
        })
    }

    async fn fetch_web(&self, web: &Web, tree: &Path) -> Result<(), BlobError> {
        let client = self.client().map_err(|fault| self.refused(fault, 1))?;
        let attempt = async || web.fetch(&client, tree).await;
        let size = match self.terms.retry.run(attempt, web::WebFault::may_pass).await {
            Ok(size) => size,
            Err((web::WebFault::Fault(fault), attempts)) => {
                return Err(self.refused(fault, attempts));
            }
            Err((web::WebFault::Disk(source), _)) => return Err(stage::disk(tree, source)),
        };
        self.tally.count(self.operation, size);
        Ok(())
    }

    async fn copy(&self, disk: &Disk, tree: &Path) -> Result<(), BlobError> {
        let (disk, operation) = (disk.clone(), self.operation.clone());
        let (ambient, tree) = (self.terms.ambient.clone(), tree.to_owned());
        let (target, from) = (self.directory(), disk.directory(&self.terms.ambient));
        let copied = fetch::in_background(move || {
            let tally = Tally::default();
            disk.copy(&operation, &ambient, (&tree, &target), &tally)?;
            Ok((tally.files.load(Relaxed), tally.bytes.load(Relaxed)))
        });
        let (files, bytes) = copied.await.map_err(|source| stage::disk(&from, source))?;
        self.tally.files.store(files, Relaxed);
        self.tally.bytes.store(bytes, Relaxed);
        Ok(())
    }

    /// Puts what was fetched where it belongs.
    fn settle(&self, stage: &Stage) -> Result<Downloaded, BlobError> {
        let directory = self.directory();
        let mut outputs = Map::new();
        match &self.source.placement {
            Placement::Here { container, folder } => {
                stage.settle(self.into, Path::new(""), false)?;
                outputs.insert((*container).to_owned(), self.source.container().into());
                outputs.insert("folder".to_owned(), folder.as_str().into());
                outputs.insert("directory".to_owned(), directory.to_string_lossy().into());
            }
            Placement::Below {
                directory: below,
                emptied,
                must_exist: _,
            } => {
                stage.settle(self.into, below, *emptied)?;
                outputs.insert("directory".to_owned(), below.to_string_lossy().into());
            }
        }
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
        let downloaded = Downloaded {
            directory,
            files: load(&self.tally.files),
            bytes: load(&self.tally.bytes),
            left_out: load(&self.tally.left_out),
            outputs,
        };
        (self.operation.progress)(downloaded.summary(self.source));
        Ok(downloaded)
    }

    fn directory(&self) -> PathBuf {
        match &self.source.placement {
            Placement::Here { .. } => self.into.to_owned(),
            Placement::Below { directory, .. } => self.into.join(directory),
        }
    }

    fn error(&self, ended: Ended) -> BlobError {
        match ended {
            Ended::Failed(error) => error,
            Ended::Elsewhere(region) => {
                let reason =
                    format!("the bucket is said to be in {region}, and there it is said again");
                BlobError::Permanent {
                    place: self.source.to_string(),
                    reason,
                }
            }
        }
    }

    fn refused(&self, fault: Fault, attempts: u32) -> BlobError {
        BlobError::of(fault, attempts, self.source.to_string())
    }
}

// === impl Downloaded ===

impl Downloaded {
    fn summary(&self, source: &Source) -> String {
        let left_out = match self.left_out {
            0 => String::new(),
            count => format!(", left out {count}"),
        };
        match self.files {
            0 => format!("{source} holds no files{left_out}"),
            files => format!(
                "pulled {files} files with {} bytes from {source}{left_out}",
                self.bytes
            ),
        }
    }
}

// === impl BlobError ===

impl BlobError {
    fn of(fault: Fault, attempts: u32, place: String) -> Self {
        let Fault { kind, reason } = fault;
        match kind {
            Kind::NotFound => Self::NotFound { place, reason },
            Kind::Denied => Self::Denied { place, reason },
            Kind::Transient => Self::Transient {
                place,
                reason,
                attempts,
            },
            Kind::Permanent | Kind::Elsewhere(_) => Self::Permanent { place, reason },
        }
    }
}
