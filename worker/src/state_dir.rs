//! Where a worker keeps what must outlive its process, and that no two processes share it.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

/// How many workers of one host and pool may have a name made for them; more should be given names.
const MOST_UNNAMED: u32 = 100;

/// The directory of one worker, held for as long as this lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    /// The worker's name.
    pub(crate) worker: String,
    /// The directory.
    pub(crate) path: PathBuf,
    _lock: Flock<File>,
    /// Where workspaces are, if not here, held as well.
    workspaces: Option<(PathBuf, Flock<File>)>,
}

/// A worker that has been started with a state directory, whether it runs or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its name.
    pub(crate) worker: String,
    /// Its pool.
    pub(crate) pool: String,
    /// Its directory.
    pub(crate) path: PathBuf,
}

/// Why the directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateDirError {
    /// The file system says no.
    #[error("state directory {}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "a worker named '{worker}' for work pool '{pool}' runs on this machine already; give this one another --name or --state-dir"
    )]
    Taken {
        /// The worker.
        worker: String,
        /// Its pool.
        pool: String,
    },
}

// === impl StateDir ===

impl StateDir {
    /// Takes the directory of a worker. Without a name, the host's and the pool's make one, which is the same after a restart.
    pub(crate) fn take(root: &Path, pool: &str, name: Option<&str>) -> Result<Self, StateDirError> {
        if let Some(name) = name {
            return Self::try_take(root, pool, name)?.ok_or_else(|| StateDirError::Taken {
                worker: name.to_owned(),
                pool: pool.to_owned(),
            });
        }
        let host = nix::unistd::gethostname().map_or_else(
            |_| "worker".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
        for number in 1..=MOST_UNNAMED {
            let name = match number {
                1 => format!("{host}-{pool}"),
                number => format!("{host}-{pool}-{number}"),
            };
            if let Some(taken) = Self::try_take(root, pool, &name)? {
                return Ok(taken);
            }
        }
        Err(StateDirError::Taken {
            worker: format!("{host}-{pool}"),
            pool: pool.to_owned(),
        })
    }

    /// The journal's file.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join("journal.db")
    }

    /// Where the subprocess driver keeps its jobs.
    pub(crate) fn jobs(&self) -> PathBuf {
        self.path.join("jobs")
    }

    /// Keeps workspaces elsewhere: below a root that other workers may use too, in a directory of this one's own.
    pub(crate) fn keep_workspaces_in(
        mut self,
        root: Option<&Path>,
        pool: &str,
    ) -> Result<Self, StateDirError> {
        let Some(root) = root else { return Ok(self) };
        let path = root.join(file_name(pool)).join(file_name(&self.worker));
        let lock = try_lock(&path)?.ok_or_else(|| StateDirError::Taken {
            worker: self.worker.clone(),
            pool: pool.to_owned(),
        })?;
        self.workspaces = Some((path, lock));
        Ok(self)
    }

    /// Where workspaces are made.
    pub(crate) fn workspaces(&self) -> PathBuf {
        let elsewhere = self.workspaces.as_ref();
        let parent = elsewhere.map_or(&self.path, |(path, _)| path);
        parent.join("workspaces")
    }

    fn try_take(root: &Path, pool: &str, worker: &str) -> Result<Option<Self>, StateDirError> {
        let path = root
            .join("workers")
            .join(file_name(pool))
            .join(file_name(worker));
        let Some(lock) = try_lock(&path)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            worker: worker.to_owned(),
            path,
            _lock: lock,
            workspaces: None,
        }))
    }
}

/// Makes a directory for this user alone, and locks it. None: another process holds the lock.
pub(crate) fn try_lock(path: &Path) -> Result<Option<Flock<File>>, StateDirError> {
    let failed = |source| StateDirError::Io {
        path: path.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed)?;
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join("lock"))
        .map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// The workers that have been started with a state directory, by pool and name.
pub(crate) fn known(root: &Path) -> Result<Vec<Known>, StateDirError> {
    let mut known = Vec::new();
    for pool in directories(&root.join("workers"))? {
        for path in directories(&pool)? {
            if let (Some(pool), Some(worker)) = (name_of(&pool), name_of(&path)) {
                known.push(Known { worker, pool, path });
            }
        }
    }
    known.sort_by(|one, other| (&one.pool, &one.worker).cmp(&(&other.pool, &other.worker)));
    Ok(known)
}

fn directories(parent: &Path) -> Result<Vec<PathBuf>, StateDirError> {
    let failed = |source| StateDirError::Io {
        path: parent.to_owned(),
        source,
    };
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(failed)?,
    };
    let paths: Result<Vec<PathBuf>, io::Error> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(failed)?;
    paths.retain(|path| path.is_dir());
    Ok(paths)
}

/// The name that a directory was made for.
fn name_of(path: &Path) -> Option<String> {
    let text = path.file_name()?.to_str()?;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// A name made fit for a file: what is not a letter, digit, dash, dot or underscore is percent-encoded, so that two names never meet.
fn file_name(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => encoded.push(char::from(byte)),
            b'.' if at > 0 => encoded.push('.'),
            _ => encoded.extend(['%', hex(byte >> 4), hex(byte & 15)]),
        }
    }
    encoded
}

fn hex(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).unwrap_or('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_worker_without_a_name_gets_one_of_its_own_and_keeps_it() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let first = StateDir::take(root.path(), "demo", None).expect("free");
        let second = StateDir::take(root.path(), "demo", None).expect("free");
        assert!(second.worker.ends_with("-demo-2"), "{}", second.worker);
        let name = first.worker.clone();
        drop(first);
        let again = StateDir::take(root.path(), "demo", None).expect("free again");
        assert_eq!(again.worker, name);
    }

    #[test]
    fn a_name_that_runs_already_is_refused() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let _held = StateDir::take(root.path(), "demo", Some("w")).expect("free");
        let error = StateDir::take(root.path(), "demo", Some("w")).expect_err("taken");
        assert!(matches!(error, StateDirError::Taken { .. }), "{error}");
    }

    #[test]
    fn who_was_started_is_known_by_name() {
        let root = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(known(root.path()).expect("it is readable"), []);
        let held = StateDir::take(root.path(), "ü/pool", Some("a worker")).expect("free");
        let found = known(root.path()).expect("it is readable");
        let expected = Known {
            worker: "a worker".to_owned(),
            pool: "ü/pool".to_owned(),
            path: held.path.clone(),
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn names_stay_inside_their_directory_and_apart() {
        assert_eq!(file_name("../up"), "%2e.%2fup");
        assert_ne!(file_name("a b"), file_name("a%20b"));
    }
}
