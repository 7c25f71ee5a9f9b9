//! The directory that outlives the worker: what is known of each job is in files named after its key.
//!
//! | file | written by | what |
//! |---|---|---|
//! | `<key>.job` | driver, then shim | The record: a line with what was intended, a line with what was started. The shim holds a lock on it for its whole life. |
//! | `<key>.ctl` | shim | A pipe with a name, for requests to the shim. |
//! | `<key>.out`, `<key>.err` | job | What it wrote. |
//! | `<key>.exit` | shim | How it ended; put in place by rename. |
//! | `<key>.dir` | driver | A working directory, when the job was given none. |
//!
//! Liveness is the lock, never a pid: pids are used again, locks are not. The lock belongs to the open file, which the driver locks and the
//! shim inherits, so that from the decision to start until the end of the shim it is never free.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::job::{Outcome, Owner, RunKey};

/// The version of the record and of the exit file.
const VERSION: u16 = 1;

/// How much of a record or an exit file is read. They have a few hundred bytes; reasons are cut by whoever writes them.
const READ_LIMIT: u64 = 64 * 1024;

/// The directory of all jobs of a machine.
#[derive(Clone, Debug)]
pub(super) struct JobsDir {
    path: PathBuf,
}

/// What a file of a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Record,
    Requests,
    Stdout,
    Stderr,
    Exit,
    Directory,
}

/// The first line of a record: what the driver wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Intended {
    pub(super) version: u16,
    pub(super) owner: Owner,
    /// The job's cgroup, where it has one.
    pub(super) cgroup: Option<PathBuf>,
}

/// The second line of a record: what the shim did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Started {
    /// The process of the job.
    pub(super) pid: i32,
    /// The process that watches over it.
    pub(super) shim: i32,
}

/// A job's record, as far as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) intended: Intended,
    pub(super) started: Option<Started>,
}

/// How a job ended, as the shim saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ExitRecord {
    pub(super) version: u16,
    pub(super) end: End,
    /// Whether the engine said over the control session that the API knows the end.
    pub(super) reported: bool,
    /// Whether the end came after a request to stop.
    pub(super) stopped: bool,
    /// Processes of the job's cgroup that were ended for lack of memory, where that is known.
    pub(super) oom_kills: Option<u64>,
    /// The memory limit that was reached while the job ran: of its cgroup or of one around it.
    pub(super) memory_limit: Option<u64>,
    pub(super) ended: Timestamp,
}

/// The bare end of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    Code(i32),
    Signal(i32),
    Lost(String),
}

/// Which files of a job are there, as far as a listing tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) record: bool,
    pub(super) exit: bool,
}

// === impl JobsDir ===

impl JobsDir {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory, readable by nobody else: output may hold anything.
    pub(super) fn create(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
    }

    pub(super) fn file(&self, key: RunKey, part: Part) -> PathBuf {
        self.path.join(format!("{key}.{}", part.extension()))
    }

    /// Opens the record for locking, and makes it if it is not there.
    pub(super) fn open_record(&self, key: RunKey) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.file(key, Part::Record))
    }

    /// Opens the record if it is there. A directory that is not there has lost no job: it cannot be asked.
    pub(super) fn find_record(&self, key: RunKey) -> io::Result<Option<File>> {
        let path = self.file(key, Part::Record);
        let record = found(OpenOptions::new().read(true).append(true).open(path))?;
        if record.is_none() {
            fs::metadata(&self.path)?;
        }
        Ok(record)
    }

    /// How a job ended, if it has. An exit file that says nothing we know is an end all the same.
    pub(super) fn find_exit(&self, key: RunKey) -> io::Result<Option<ExitRecord>> {
        let Some(file) = found(File::open(self.file(key, Part::Exit)))? else {
            return Ok(None);
        };
        let mut text = Vec::new();
        file.take(READ_LIMIT).read_to_end(&mut text)?;
        Ok(Some(parse(&text).unwrap_or_else(|reason| {
            ExitRecord::new(End::Lost(format!(
                "its exit file is not understood: {reason}"
            )))
        })))
    }

    /// Puts the exit file in place in one step. It is not synced: it has to outlive the worker, and no job outlives the machine.
    pub(super) fn write_exit(&self, key: RunKey, exit: &ExitRecord) -> io::Result<()> {
        let path = self.file(key, Part::Exit);
        let draft = path.with_extension("exit~");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(&serde_json::to_vec(exit)?)?;
        fs::rename(draft, path)
    }

    /// Whether the file at the record's place is still this one: it may have been removed, and made anew, before it was locked.
    pub(super) fn is_current(&self, key: RunKey, record: &File) -> io::Result<bool> {
        let opened = record.metadata()?;
        Ok(match found(fs::metadata(self.file(key, Part::Record)))? {
            Some(there) => (there.dev(), there.ino()) == (opened.dev(), opened.ino()),
            None => false,
        })
    }

    /// All jobs that have a record or an exit file.
    pub(super) fn list(&self) -> io::Result<BTreeMap<RunKey, Parts>> {
        let mut jobs = BTreeMap::<RunKey, Parts>::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            match name.to_str().and_then(parse_name) {
                Some((key, Part::Record)) => jobs.entry(key).or_default().record = true,
                Some((key, Part::Exit)) => jobs.entry(key).or_default().exit = true,
                _ => {}
            }
        }
        Ok(jobs)
    }

    /// Removes everything of a job, the record last but for the exit file: what a crash in the middle leaves is either still listed as
    /// ended, or an exit file alone, which the next sweep removes.
    pub(super) fn remove(&self, key: RunKey) -> io::Result<()> {
        let directory = self.file(key, Part::Directory);
        found(fs::remove_dir_all(directory))?;
        for part in [
            Part::Requests,
            Part::Stdout,
            Part::Stderr,
            Part::Record,
            Part::Exit,
        ] {
            found(fs::remove_file(self.file(key, part)))?;
        }
        Ok(())
    }

    pub(super) fn remove_exit(&self, key: RunKey) -> io::Result<()> {
        found(fs::remove_file(self.file(key, Part::Exit))).map(drop)
    }
}

// === impl Part ===

impl Part {
    fn extension(self) -> &'static str {
        match self {
            Self::Record => "job",
            Self::Requests => "ctl",
            Self::Stdout => "out",
            Self::Stderr => "err",
            Self::Exit => "exit",
            Self::Directory => "dir",
        }
    }
}

// === impl Record ===

impl Record {
    /// Reads a record; `None` when not even its first line was written. What [is not understood](is_not_understood) is an error of its own.
    pub(super) fn read(file: &mut File) -> io::Result<Option<Self>> {
        file.rewind()?;
        let mut text = String::new();
        io::Read::by_ref(file)
            .take(READ_LIMIT)
            .read_to_string(&mut text)?;
        // A line without an end was not written to its end.
        let mut lines = text
            .split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n'));
        let Some(first) = lines.next() else {
            return Ok(None);
        };
        let intended = parse(first.as_bytes()).map_err(|reason| not_understood(&reason))?;
        let started = lines.next().map(serde_json::from_str).transpose();
        let started = started.map_err(|error| not_understood(&error.to_string()))?;
        Ok(Some(Self { intended, started }))
    }
}

// === impl Intended ===

impl Intended {
    pub(super) fn new(owner: Owner, cgroup: Option<PathBuf>) -> Self {
        Self {
            version: VERSION,
            owner,
            cgroup,
        }
    }
}

// === impl ExitRecord ===

impl ExitRecord {
    pub(super) fn new(end: End) -> Self {
        Self {
            version: VERSION,
            end,
            reported: false,
            stopped: false,
            oom_kills: None,
            memory_limit: None,
            ended: Timestamp::now(),
        }
    }

    /// The end in the contract's words.
    pub(super) fn outcome(&self) -> Outcome {
        let out_of_memory = self.oom_kills.is_some_and(|kills| kills > 0);
        match &self.end {
            End::Lost(reason) => Outcome::Lost {
                reason: reason.clone(),
            },
            // The engine has said how it ended: what happens to its process afterwards is of no account.
            End::Signal(signal) if self.reported => Outcome::Exited {
                code: SIGNAL_BASE + signal,
                reported: true,
            },
            End::Code(code) if *code == 0 || self.reported || !out_of_memory => Outcome::Exited {
                code: *code,
                reported: self.reported,
            },
            End::Signal(signal) if self.stopped || !out_of_memory => Outcome::Signalled {
                signal: *signal,
                by_us: self.stopped && [libc::SIGTERM, libc::SIGKILL].contains(signal),
            },
            End::Code(_) | End::Signal(_) => Outcome::OutOfMemory {
                limit: self.memory_limit,
            },
        }
    }
}

/// A shell says `128 + signal` for the end by a signal.
const SIGNAL_BASE: i32 = 128;

/// Takes the lock of an open record, if it is free. It lasts until the last copy of this open file is closed, in whatever process.
pub(super) fn try_lock(record: &File) -> io::Result<bool> {
    match fcntl(record, FcntlArg::F_OFD_SETLK(&whole_file())) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether somebody else holds the lock. Looking does not disturb a driver that wants to take it.
pub(super) fn is_locked(record: &File) -> io::Result<bool> {
    let mut lock = whole_file();
    fcntl(record, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

#[expect(clippy::cast_possible_truncation, reason = "both are small constants")]
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Whether an error says that a record was read and is nothing we know. Trying again does not help, and whoever wrote it may need it.
pub(super) fn is_not_understood(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

fn not_understood(reason: &str) -> io::Error {
    let reason = format!("its record is not understood: {reason}");
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Parses what carries our version; else says why not.
fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u16,
    }
    let Versioned { version } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!("version {version} is not known"));
    }
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

/// Which job and which of its files a name is.
pub(super) fn parse_name(name: &str) -> Option<(RunKey, Part)> {
    let (key, extension) = name.rsplit_once('.')?;
    let part = [
        Part::Record,
        Part::Requests,
        Part::Stdout,
        Part::Stderr,
        Part::Exit,
        Part::Directory,
    ]
    .into_iter()
    .find(|part| part.extension() == extension)?;
    Some((key.parse().ok()?, part))
}

/// `None` for what is not there.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
