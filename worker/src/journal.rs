//! What this worker has claimed, on disk, so that the process after this one knows.
//!
//! One row per flow run, replaced as its life goes on and removed when it is over. A thread of its own owns the database and writes
//! many rows in one synced transaction, so that a hundred lives at once cost few syncs. It holds no secret.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use worker_api::types::TransitionId;
use worker_drivers::{Handle, LogCursor, Outcome, RunKey};

use crate::{emitter::Submitted, task, traces::Trace};

/// The layout of the database. A newer one is refused, never guessed at.
const LAYOUT: u32 = 1;

/// How many writes may wait for the thread. A life waits for its own, so this many lives can be at a write at once.
const QUEUE: usize = 512;

/// How many writes one transaction takes, so that the first of them does not wait for all that follow.
const BATCH: usize = 128;

/// A hold on the journal; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    writes_tx: mpsc::Sender<Write>,
}

/// What is known of one claimed flow run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The attempt.
    pub(crate) key: RunKey,
    /// The flow run's name, for logs.
    pub(crate) name: String,
    /// The proposal that claims it.
    pub(crate) transition: TransitionId,
    /// How far it has come.
    pub(crate) step: Step,
    /// Who tells the API how it went.
    pub(crate) reporter: Reporter,
    /// When it was claimed.
    pub(crate) claimed: Timestamp,
    /// What finds its infrastructure, once that exists.
    #[serde(default)]
    pub(crate) handle: Option<Handle>,
    /// The lease on a slot of its deployment, to be renewed while it is held.
    #[serde(default)]
    pub(crate) lease: Option<uuid::Uuid>,
    /// The directory its code was pulled into, to be removed at its end.
    #[serde(default)]
    pub(crate) workspace: Option<PathBuf>,
    /// What the event feed was told when it was submitted.
    #[serde(default)]
    pub(crate) told: Option<Submitted>,
    /// The trace that it is told of in, where there are traces.
    #[serde(default)]
    pub(crate) trace: Option<Trace>,
    /// How much of its output has reached its log.
    #[serde(default)]
    pub(crate) output: LogCursor,
    /// Whether its output is shown: in its log for a plain command, on the worker's own output for any (`stream_output`).
    #[serde(default)]
    pub(crate) shown: bool,
}

/// How far a claimed flow run has come. Each step is written before the next is begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// The claim is about to be proposed; the server may or may not have stored it.
    Claiming,
    /// It is ours, and nothing was asked of the driver.
    Claimed,
    /// The driver is about to be asked; the infrastructure may or may not exist.
    Submitting,
    /// The infrastructure exists; the entry's handle finds it.
    Submitted,
    /// It is over for the driver, and is to be reported.
    Over(End),
}

/// How the attempt ended, before it is turned into a state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum End {
    /// The job ended.
    Job {
        /// How.
        outcome: Outcome,
        /// The last lines it wrote.
        tail: Vec<String>,
        /// Whether we ended it because the flow run was cancelled, or because the worker was told to stop.
        stopped: Stopped,
    },
    /// It was never started.
    NotStarted(NotStarted),
}

/// Whether and why the job was stopped by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stopped {
    /// It ended by itself.
    No,
    /// The flow run was cancelled.
    Cancelled,
    /// The worker was told to stop.
    Shutdown,
}

/// Why an attempt was never started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum NotStarted {
    /// It cannot run; why, for a person.
    Failed(String),
    /// The flow run was cancelled first.
    Cancelled,
    /// Somebody else has changed its state, so it is theirs.
    NotOurs,
    /// Its deployment does not exist any more.
    DeploymentGone(String),
    /// It can run, but not here and now; why. It is given back to the pool.
    PutBack(String),
}

/// Who tells the API how a flow run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reporter {
    /// Prefect's engine, inside the job; the worker reports only what it could not.
    Engine,
    /// The worker, by the exit code of a plain command.
    Worker {
        /// Whether a non-zero exit is a failure of the flow run instead of a crash.
        failed: bool,
    },
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// SQLite says no.
    #[error("journal {path}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// A newer worker wrote it.
    #[error(
        "journal {path} has layout {found}, and this worker knows layouts up to {LAYOUT}; run the newer worker to finish what it holds"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u32,
    },
    /// A row cannot be understood.
    #[error(
        "journal {path} holds an entry for flow run {flow_run} that cannot be read; move the file away to start without it"
    )]
    Entry {
        /// The file.
        path: PathBuf,
        /// Whose entry.
        flow_run: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The thread could not be started.
    #[error("journal thread")]
    Thread(#[source] std::io::Error),
}

/// The journal's thread has ended, which only a failing disk brings about: nothing may be started without it.
#[derive(Debug, thiserror::Error)]
#[error("the journal cannot be written any more; see the log for the reason")]
pub(crate) struct JournalGone;

enum Write {
    Put {
        entry: Box<Entry>,
        done_tx: Option<oneshot::Sender<()>>,
    },
    Remove {
        key: RunKey,
    },
    /// Nothing, after everything before it.
    Mark {
        done_tx: oneshot::Sender<()>,
    },
    Find {
        flow_run: uuid::Uuid,
        found_tx: oneshot::Sender<Option<u32>>,
    },
    LastAttempt {
        flow_run: uuid::Uuid,
        last_tx: oneshot::Sender<Option<u32>>,
    },
    NextAttempt {
        flow_run: uuid::Uuid,
        at_least: u32,
        attempt_tx: oneshot::Sender<u32>,
    },
}

// === impl End ===

impl From<NotStarted> for End {
    fn from(why: NotStarted) -> Self {
        Self::NotStarted(why)
    }
}

// === impl Journal ===

impl Journal {
    /// Opens the journal, creating it where there is none, and reads what it holds.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Entry>), JournalError> {
        let sqlite = |source| JournalError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(sqlite)?;
        prepare(&connection, path)?;
        let entries = read_all(&connection, path)?;
        let (writes_tx, writes_rx) = mpsc::channel(QUEUE);
        task::thread("journal", move || write_all(connection, writes_rx))
            .map_err(JournalError::Thread)?;
        Ok((Self { writes_tx }, entries))
    }

    /// Writes an entry and waits until it is on disk.
    pub(crate) async fn record(&self, entry: &Entry) -> Result<(), JournalGone> {
        let (done_tx, done_rx) = oneshot::channel();
        let write = Write::Put {
            entry: Box::new(entry.clone()),
            done_tx: Some(done_tx),
        };
        self.writes_tx.send(write).await.map_err(|_| JournalGone)?;
        done_rx.await.map_err(|_| JournalGone)
    }

    /// Writes an entry soon. For what only saves work after a restart, such as how far a log was read.
    pub(crate) async fn note(&self, entry: &Entry) -> Result<(), JournalGone> {
        let write = Write::Put {
            entry: Box::new(entry.clone()),
            done_tx: None,
        };
        self.writes_tx.send(write).await.map_err(|_| JournalGone)
    }

    /// Forgets an attempt, soon: its report is out, and a second report of the same end changes nothing.
    pub(crate) async fn remove(&self, key: RunKey) -> Result<(), JournalGone> {
        self.writes_tx
            .send(Write::Remove { key })
            .await
            .map_err(|_| JournalGone)
    }

    /// Whether there is an entry for an attempt now.
    pub(crate) async fn holds(&self, key: RunKey) -> Result<bool, JournalGone> {
        Ok(self.find_attempt(key.flow_run).await? == Some(key.attempt))
    }

    /// The attempt at a flow run that there is an entry for now.
    pub(crate) async fn find_attempt(
        &self,
        flow_run: uuid::Uuid,
    ) -> Result<Option<u32>, JournalGone> {
        let (found_tx, found_rx) = oneshot::channel();
        self.writes_tx
            .send(Write::Find { flow_run, found_tx })
            .await
            .map_err(|_| JournalGone)?;
        found_rx.await.map_err(|_| JournalGone)
    }

    /// Whether its thread has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.writes_tx.is_closed()
    }

    /// Waits until everything that was told it is on disk.
    pub(crate) async fn settled(&self) -> Result<(), JournalGone> {
        let (done_tx, done_rx) = oneshot::channel();
        let mark = Write::Mark { done_tx };
        self.writes_tx.send(mark).await.map_err(|_| JournalGone)?;
        done_rx.await.map_err(|_| JournalGone)
    }

    /// The number of the last attempt at a flow run that this journal has ever had. One that it had and has no entry for is over.
    pub(crate) async fn last_attempt(
        &self,
        flow_run: uuid::Uuid,
    ) -> Result<Option<u32>, JournalGone> {
        let (last_tx, last_rx) = oneshot::channel();
        let write = Write::LastAttempt { flow_run, last_tx };
        self.writes_tx.send(write).await.map_err(|_| JournalGone)?;
        last_rx.await.map_err(|_| JournalGone)
    }

    /// A number for a new attempt at a flow run that no earlier attempt of this worker had.
    pub(crate) async fn next_attempt(
        &self,
        flow_run: uuid::Uuid,
        at_least: u32,
    ) -> Result<u32, JournalGone> {
        let (attempt_tx, attempt_rx) = oneshot::channel();
        let write = Write::NextAttempt {
            flow_run,
            at_least,
            attempt_tx,
        };
        self.writes_tx.send(write).await.map_err(|_| JournalGone)?;
        attempt_rx.await.map_err(|_| JournalGone)
    }
}

fn prepare(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let sqlite = |source| JournalError::Sqlite {
        path: path.to_owned(),
        source,
    };
    let found: u32 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(sqlite)?;
    if found > LAYOUT {
        return Err(JournalError::Newer {
            path: path.to_owned(),
            found,
        });
    }
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA cache_size = -512;
             CREATE TABLE IF NOT EXISTS entries (flow_run TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS attempts (flow_run TEXT PRIMARY KEY, last INTEGER NOT NULL, day INTEGER NOT NULL) WITHOUT ROWID;
             DELETE FROM attempts WHERE day < unixepoch() / 86400 - {ATTEMPT_MEMORY_DAYS};
             PRAGMA user_version = {LAYOUT};"
        ))
        .map_err(sqlite)
}

/// How long the number of a flow run's last attempt is kept. Infrastructure of an attempt does not outlive its life by more.
const ATTEMPT_MEMORY_DAYS: u32 = 30;

fn read_all(connection: &Connection, path: &Path) -> Result<Vec<Entry>, JournalError> {
    let sqlite = |source| JournalError::Sqlite {
        path: path.to_owned(),
        source,
    };
    let mut statement = connection
        .prepare("SELECT flow_run, document FROM entries")
        .map_err(sqlite)?;
    let rows = statement
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })
        .map_err(sqlite)?;
    let mut entries = Vec::new();
    for row in rows {
        let (flow_run, document) = row.map_err(sqlite)?;
        let entry = serde_json::from_str(&document).map_err(|source| JournalError::Entry {
            path: path.to_owned(),
            flow_run,
            source,
        })?;
        entries.push(entry);
    }
    Ok(entries)
}

fn write_all(mut connection: Connection, mut writes_rx: mpsc::Receiver<Write>) {
    let mut batch = Vec::with_capacity(BATCH);
    while writes_rx.blocking_recv_many(&mut batch, BATCH) > 0 {
        if let Err(error) = write_batch(&mut connection, batch.drain(..)) {
            // Ending the thread closes the channel, so every life that needs the journal learns that it is gone.
            tracing::error!(%error, "the journal cannot be written; nothing more will be started");
            return;
        }
    }
}

fn write_batch(
    connection: &mut Connection,
    batch: impl Iterator<Item = Write>,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let mut done = Vec::new();
    let mut attempts = Vec::new();
    let mut answers = Vec::new();
    for write in batch {
        match write {
            Write::Put { entry, done_tx } => {
                put(&transaction, &entry)?;
                done.extend(done_tx);
            }
            Write::Remove { key } => {
                transaction
                    .prepare_cached("DELETE FROM entries WHERE flow_run = ?1")?
                    .execute(params![key.flow_run.to_string()])?;
            }
            Write::Find { flow_run, found_tx } => {
                let found = transaction
                    .prepare_cached("SELECT document FROM entries WHERE flow_run = ?1")?
                    .query_row(params![flow_run.to_string()], |row| row.get::<_, String>(0))
                    .optional()?
                    .and_then(|document| serde_json::from_str::<Entry>(&document).ok());
                answers.push((found_tx, found.map(|entry| entry.key.attempt)));
            }
            Write::Mark { done_tx } => done.push(done_tx),
            Write::LastAttempt { flow_run, last_tx } => {
                answers.push((last_tx, last_attempt(&transaction, flow_run)?));
            }
            Write::NextAttempt {
                flow_run,
                at_least,
                attempt_tx,
            } => {
                attempts.push((attempt_tx, next_attempt(&transaction, flow_run, at_least)?));
            }
        }
    }
    transaction.commit()?;
    // A life that was dropped meanwhile does not wait for its answer any more.
    for done_tx in done {
        done_tx.send(()).ok();
    }
    for (found_tx, found) in answers {
        found_tx.send(found).ok();
    }
    for (attempt_tx, attempt) in attempts {
        attempt_tx.send(attempt).ok();
    }
    Ok(())
}

fn put(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    let document = serde_json::to_string(entry)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    connection
        .prepare_cached(
            "INSERT INTO entries VALUES (?1, ?2) ON CONFLICT DO UPDATE SET document = ?2",
        )?
        .execute(params![entry.key.flow_run.to_string(), document])?;
    Ok(())
}

fn last_attempt(connection: &Connection, flow_run: uuid::Uuid) -> rusqlite::Result<Option<u32>> {
    connection
        .prepare_cached("SELECT last FROM attempts WHERE flow_run = ?1")?
        .query_row(params![flow_run.to_string()], |row| row.get(0))
        .optional()
}

fn next_attempt(
    connection: &Connection,
    flow_run: uuid::Uuid,
    at_least: u32,
) -> rusqlite::Result<u32> {
    let last = last_attempt(connection, flow_run)?;
    let next = last.map_or(at_least, |last| at_least.max(last + 1));
    connection
        .prepare_cached(
            "INSERT INTO attempts VALUES (?1, ?2, unixepoch() / 86400)
             ON CONFLICT DO UPDATE SET last = ?2, day = unixepoch() / 86400",
        )?
        .execute(params![flow_run.to_string(), next])?;
    Ok(next)
}

#[cfg(test)]
mod tests;
