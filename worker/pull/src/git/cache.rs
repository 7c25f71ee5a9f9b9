//! The cache directory: a bare mirror per repository, shared by all processes of this user, locked, bounded.
//!
//! What is in a mirror is `mirror`'s affair. A mirror holds no credential and no name but a hash of the address, and whoever wants something
//! out of it has asked the server with credentials of its own first.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{Address, GitError, context::Context};

/// How large and how old mirrors may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// One that nobody asked for this long is removed.
    pub age: Duration,
    /// The oldest are removed while all of them together take more bytes than this.
    pub size: u64,
}

/// The directory of all mirrors.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    directory: PathBuf,
    bounds: Bounds,
}

/// The place of one mirror, held against removal for as long as this lives.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) path: PathBuf,
    lock: File,
}

/// How often a lock that somebody else holds is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

// === impl Bounds ===

impl Default for Bounds {
    /// Two weeks, as weekly runs keep theirs, and 10 GiB, which a machine that runs jobs has.
    fn default() -> Self {
        Self {
            age: Duration::from_hours(14 * 24),
            size: 10 << 30,
        }
    }
}

// === impl Cache ===

impl Cache {
    pub(super) fn new(directory: PathBuf, bounds: Bounds) -> Self {
        Self { directory, bounds }
    }

    /// Opens the place of an address's mirror, which is not locked yet. `kind` tells apart mirrors that hold different parts of one repository.
    pub(super) fn slot(&self, address: &Address, kind: &str) -> Result<Slot, GitError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(GitError::io(&self.directory))?;
        let text = address.to_string();
        // Names need to be apart, not secret: the text holds no credential.
        let name = git2::Oid::hash_object(git2::ObjectType::Blob, text.as_bytes())
            .map(|hash| hash.to_string())
            .map_err(|source| GitError::Failed {
                doing: "name the mirror of",
                repository: text,
                source,
            })?;
        let lock = self.directory.join(format!("{name}{kind}.lock"));
        let path = self.directory.join(format!("{name}{kind}.git"));
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock)
            .map_err(GitError::io(&lock))?;
        // What matters is that removal sees it used; that it cannot be noted harms nobody.
        drop(lock.set_modified(SystemTime::now()));
        Ok(Slot { path, lock })
    }

    /// Removes mirrors that are too old, then the oldest while all together are too large. Those in use stay.
    pub(super) fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        let mut mirrors: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "git"))
            .map(|path| (last_used(&path), size_of(&path), path))
            .collect();
        mirrors.sort();
        let mut total: u64 = mirrors.iter().map(|(_, size, _)| size).sum();
        for (used, size, path) in mirrors {
            let old = used.elapsed().is_ok_and(|age| age > self.bounds.age);
            if !old && total <= self.bounds.size {
                continue;
            }
            if remove_unused(&path) {
                total -= size;
                tracing::debug!(path = %path.display(), "removed a git mirror");
            }
        }
    }
}

// === impl Slot ===

impl Slot {
    /// Waits until others are done with the mirror, or at least do no more than read it.
    pub(super) fn lock(&self, context: &Context, alone: bool) -> Result<(), GitError> {
        drop(self.lock.unlock());
        loop {
            let tried = if alone {
                self.lock.try_lock()
            } else {
                self.lock.try_lock_shared()
            };
            match tried {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(GitError::io(&self.path)(error)),
            }
            let waited = context.wait("waiting for the mirror", tokio::time::sleep(LOCK_INTERVAL));
            if waited.is_err() {
                return Err(context.failed("wait for the mirror of", None));
            }
        }
    }

    /// Throws the mirror away. Only for who holds it alone.
    pub(super) fn clear(&self) -> Result<(), GitError> {
        remove(&self.path).map_err(GitError::io(&self.path))
    }
}

// === functions ===

fn last_used(mirror: &Path) -> SystemTime {
    fs::metadata(mirror.with_extension("lock"))
        .and_then(|lock| lock.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Nearly all of a mirror is in its packs, and of what is kept of Git LFS in its files.
fn size_of(mirror: &Path) -> u64 {
    let directories = [mirror.join("objects/pack"), mirror.join("lfs")];
    let files = directories
        .into_iter()
        .filter_map(|one| fs::read_dir(one).ok());
    let sizes = files.flatten().flatten();
    sizes
        .filter_map(|file| file.metadata().ok())
        .map(|file| file.len())
        .sum()
}

/// The lock's file stays, or somebody could hold a lock on what is there no more.
fn remove_unused(mirror: &Path) -> bool {
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(mirror.with_extension("lock"));
    let Ok(lock) = lock else { return false };
    lock.try_lock().is_ok() && remove(mirror).is_ok()
}

/// Removes a directory that need not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
