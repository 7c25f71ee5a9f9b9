//! Gets all objects of a folder: listing and fetching at the same time, bounded, each verified.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt, stream};
use md5::{Digest, Md5};
use object_store::{
    GetOptions, ObjectMeta, ObjectStore,
    list::{PaginatedListOptions, PaginatedListStore},
};
use tokio::{io::AsyncWriteExt, time::Instant};

use super::{
    BlobError,
    fault::{Fault, Kind},
    key::{self, Backslash, Place},
    stage::{self, disk},
    transport::Watch,
};
use crate::{Operation, Retry};

/// Objects fetched at the same time. Small ones are mostly waiting; with large ones the line is full long before.
const CONCURRENCY: usize = 32;

/// Up to this many bytes are collected and written at once; larger objects are written as they arrive. With the above it bounds what is in memory.
const COLLECTED: u64 = 256 << 10;

/// How often progress is told.
const PROGRESS_INTERVAL: std::time::Duration = std::time::Duration::from_secs(3);

/// Names of left out keys that are told; all are counted.
const TOLD: u64 = 5;

/// A store that can be listed page by page.
pub(super) trait Remote: ObjectStore + PaginatedListStore {}

impl<T: ObjectStore + PaginatedListStore> Remote for T {}

/// One fetch of a whole folder.
pub(super) struct Fetch<'a> {
    pub(super) operation: &'a Operation,
    pub(super) remote: Arc<dyn Remote>,
    pub(super) prefix: &'a str,
    pub(super) backslash: Backslash,
    /// The container's address without the folder, for errors.
    pub(super) container: String,
    pub(super) tree: &'a Path,
    /// Where the files will be in the end, for errors.
    pub(super) target: &'a Path,
    pub(super) retry: &'a Retry,
    pub(super) tally: &'a Tally,
}

/// How far a fetch is.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) left_out: AtomicU64,
    /// Objects that were listed, be they files or not.
    pub(super) listed: AtomicU64,
    told: Mutex<Instant>,
}

/// Why a fetch ended early.
#[derive(Debug)]
pub(super) enum Ended {
    /// Another region has it.
    Elsewhere(String),
    Failed(BlobError),
}

struct Page {
    objects: Vec<ObjectMeta>,
    unfit: Vec<String>,
    next: Option<String>,
}

// === impl Tally ===

impl Default for Tally {
    fn default() -> Self {
        Self {
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            listed: AtomicU64::new(0),
            told: Mutex::new(Instant::now()),
        }
    }
}

impl Tally {
    /// Counts a file, and now and then says how many there are.
    pub(super) fn count(&self, operation: &Operation, size: u64) {
        let files = self.files.fetch_add(1, Relaxed) + 1;
        let bytes = self.bytes.fetch_add(size, Relaxed) + size;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= PROGRESS_INTERVAL {
            *told = Instant::now();
            drop(told);
            (operation.progress)(format!("{files} files with {bytes} bytes so far"));
        }
    }

    fn leave_out(&self, operation: &Operation, key: &str, reason: &str) {
        if self.left_out.fetch_add(1, Relaxed) < TOLD {
            (operation.progress)(format!("left out {key:?}: it {reason}"));
        }
    }
}

// === impl Fetch ===

impl Fetch<'_> {
    /// Gets everything, or stops at the first object that cannot be had.
    pub(super) async fn run(&self) -> Result<(), Ended> {
        self.pages()
            .map_ok(|object| async move { self.object(object).await })
            .try_buffer_unordered(CONCURRENCY)
            .try_for_each(|()| async { Ok(()) })
            .await
    }

    /// All objects of the folder, a page at a time; what cannot be a file is told and left out.
    fn pages(&self) -> impl Stream<Item = Result<ObjectMeta, Ended>> + '_ {
        let first = Some(None);
        stream::try_unfold(first, async move |token: Option<Option<String>>| {
            let Some(token) = token else {
                return Ok(None);
            };
            let page = self.page(token).await?;
            let listed = page.objects.len() + page.unfit.len();
            self.tally.listed.fetch_add(listed as u64, Relaxed);
            for key in page.unfit {
                let reason = match key::place(&key, self.prefix, self.backslash) {
                    Place::Unfit(reason) => reason,
                    Place::File(_) => "has an empty part, `.` or a control character in it",
                    Place::Folder => continue,
                };
                self.tally.leave_out(self.operation, &key, reason);
            }
            let objects = stream::iter(page.objects.into_iter().map(Ok));
            Ok(Some((objects, page.next.map(Some))))
        })
        .try_flatten()
    }

    async fn page(&self, token: Option<String>) -> Result<Page, Ended> {
        // The slash makes a folder of what would else be the beginning of its siblings' names, too.
        let prefix = (!self.prefix.is_empty()).then(|| format!("{}/", self.prefix));
        let attempt = async || {
            let watch = Watch::default();
            let options = PaginatedListOptions {
                page_token: token.clone(),
                extensions: watch.extensions(),
                ..PaginatedListOptions::default()
            };
            let listed = self.remote.list_paginated(prefix.as_deref(), options).await;
            let listed = listed.map_err(|error| watch.judge(&error))?;
            Ok(Page {
                objects: listed.result.objects,
                unfit: std::mem::take(&mut watch.seen().unfit),
                next: listed.page_token,
            })
        };
        let tried = self.retry.run(attempt, Fault::may_pass).await;
        tried.map_err(|(fault, attempts)| self.ended(fault, attempts, self.prefix))
    }

    async fn object(&self, object: ObjectMeta) -> Result<(), Ended> {
        let key = object.location.as_ref();
        let path = match key::place(key, self.prefix, self.backslash) {
            Place::File(path) => path,
            Place::Folder => return Ok(()),
            Place::Unfit(reason) => {
                self.tally.leave_out(self.operation, key, reason);
                return Ok(());
            }
        };
        let tried = self
            .retry
            .run(
                async || self.attempt(&object, &path).await,
                Missed::may_pass,
            )
            .await;
        match tried {
            Ok(Some(size)) => self.tally.count(self.operation, size),
            Ok(None) => {}
            Err((Missed::Fault(fault), attempts)) => return Err(self.ended(fault, attempts, key)),
            Err((Missed::Disk(source), _)) => {
                return Err(Ended::Failed(disk(&self.target.join(&path), source)));
            }
        }
        Ok(())
    }

    /// Fetches one object; `None` if it only stands for a folder.
    async fn attempt(&self, object: &ObjectMeta, path: &Path) -> Result<Option<u64>, Missed> {
        let watch = Watch::default();
        let options = GetOptions {
            extensions: watch.extensions(),
            ..GetOptions::default()
        };
        let found = self.remote.get_opts(&object.location, options).await;
        let found = found.map_err(|error| watch.judge(&error))?;
        let (md5, is_folder) = {
            let seen = watch.seen();
            (seen.md5, seen.is_folder)
        };
        if is_folder {
            return Ok(None);
        }
        let size = found.meta.size;
        let body = found
            .into_stream()
            .map_err(|error| Missed::Fault(watch.judge(&error)));
        let mut check = Check {
            size,
            md5,
            got: 0,
            digest: Md5::new(),
        };
        let body = body.inspect_ok(|chunk| check.add(chunk));
        if size <= COLLECTED {
            let body: BytesMut = body.try_collect_bytes().await?;
            check.done()?;
            let (tree, path) = (self.tree.to_owned(), path.to_owned());
            in_background(move || write(&tree, &path, &body)).await?;
        } else {
            self.stream_to(path, body).await?;
            check.done()?;
        }
        Ok(Some(size))
    }

    async fn stream_to(
        &self,
        path: &Path,
        body: impl Stream<Item = Result<Bytes, Missed>>,
    ) -> Result<(), Missed> {
        let (tree, below) = (self.tree.to_owned(), path.to_owned());
        let file = in_background(move || {
            stage::make_below(&tree, &below)?;
            std::fs::File::create(tree.join(below))
        });
        let mut file = tokio::fs::File::from_std(file.await?);
        let mut body = std::pin::pin!(body);
        while let Some(chunk) = body.try_next().await? {
            file.write_all(&chunk).await?;
        }
        Ok(file.flush().await?)
    }

    fn ended(&self, fault: Fault, attempts: u32, key: &str) -> Ended {
        let place = format!("{}/{key}", self.container);
        match fault.kind {
            Kind::Elsewhere(region) => Ended::Elsewhere(region),
            _ => Ended::Failed(BlobError::of(fault, attempts, place)),
        }
    }
}

// === private types ===

/// Why one attempt at an object failed.
enum Missed {
    Fault(Fault),
    Disk(io::Error),
}

impl Missed {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.may_pass())
    }
}

impl std::fmt::Display for Missed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Disk(error) => error.fmt(f),
        }
    }
}

impl From<Fault> for Missed {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<io::Error> for Missed {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Compares what arrived with what was promised.
struct Check {
    size: u64,
    md5: Option<[u8; 16]>,
    got: u64,
    digest: Md5,
}

impl Check {
    fn add(&mut self, chunk: &Bytes) {
        self.got += chunk.len() as u64;
        if self.md5.is_some() {
            self.digest.update(chunk);
        }
    }

    fn done(self) -> Result<(), Fault> {
        if self.got != self.size {
            return Err(Fault::transient(format!(
                "{} of {} bytes arrived",
                self.got, self.size
            )));
        }
        match self.md5 {
            Some(promised) if promised[..] != self.digest.finalize()[..] => Err(Fault::transient(
                "what arrived is not what is stored: its checksum is another one",
            )),
            _ => Ok(()),
        }
    }
}

/// Collects a body; `object_store`'s own way would not let its chunks be seen.
trait CollectBytes: Stream<Item = Result<Bytes, Missed>> + Sized {
    async fn try_collect_bytes(self) -> Result<BytesMut, Missed> {
        self.try_fold(BytesMut::new(), async |mut all, chunk| {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
    }
}

impl<S: Stream<Item = Result<Bytes, Missed>>> CollectBytes for S {}

// === functions ===

fn write(tree: &Path, path: &PathBuf, body: &[u8]) -> io::Result<()> {
    stage::make_below(tree, path)?;
    let target = tree.join(path);
    match std::fs::write(&target, body) {
        // Its directory is there already, so this only stood for it.
        Err(_) if body.is_empty() && target.is_dir() => Ok(()),
        written => written,
    }
}

/// Does what may block where it may.
pub(super) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
