//! The database: one connection, one thread, commands in, answers out.
//!
//! Every command runs in a savepoint of its own; commands that wait at the same time share one transaction, so that
//! many small transitions cost one commit. Answers and events go out after the commit, never before.

use std::{
    cell::RefCell,
    fs::OpenOptions,
    ops::Deref,
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::Error,
    events::{Event, Hub},
};

pub(crate) mod artifacts;
pub(crate) mod blocks;
pub(crate) mod deployment_runs;
pub(crate) mod deployments;
pub(crate) mod events;
pub(crate) mod filter;
pub(crate) mod flows;
pub(crate) mod inputs;
pub(crate) mod leases;
pub(crate) mod limits;
pub(crate) mod logs;
pub(crate) mod notices;
pub(crate) mod pools;
pub(crate) mod queues;
pub(crate) mod runs;
pub(crate) mod scheduled;
pub(crate) mod schedules;
mod schema;
pub(crate) mod states;
pub(crate) mod task_runs;
pub(crate) mod usage;
pub(crate) mod value;
pub(crate) mod variables;
pub(crate) mod workers;

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In memory: it ends with the server.
    Memory,
    /// In a file, which is made when it is not there.
    File(PathBuf),
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer release has written it.
    #[error(
        "the database has schema version {found}, and this release knows versions up to {known}: use the newer release, or another file"
    )]
    TooNew {
        /// The version it has.
        found: u32,
        /// The newest version this release knows.
        known: u32,
    },
    /// SQLite refused.
    #[error("the database cannot be opened")]
    Sqlite(#[from] rusqlite::Error),
    /// The file cannot be made.
    #[error("the database's file cannot be made")]
    File(#[source] std::io::Error),
    /// The thread that serves it cannot be started.
    #[error("the database's thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A handle on the database. The thread ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
}

/// What a command works with.
pub(crate) struct Tx<'a> {
    conn: &'a Connection,
    /// The time of the command, to the microsecond.
    pub(crate) now: Timestamp,
    outbox: RefCell<Vec<Event>>,
}

type Job = Box<dyn FnOnce(&mut Tx<'_>) -> Answer + Send>;
/// Sends the answer, once it is known whether the transaction was committed.
type Answer = Box<dyn FnOnce(bool) + Send>;

/// How many commands may wait; beyond it, requests wait before they are queued.
const QUEUE: usize = 1024;
/// How many commands share a transaction: enough to make commits cheap, few enough that the first need not wait long.
const GROUP: usize = 64;
/// How long another process may hold the file before a request is told so.
const BUSY: Duration = Duration::from_secs(5);
/// How many prepared statements are kept.
const STATEMENTS: usize = 128;

// === impl Store ===

impl Store {
    /// Opens the database, brings it to the present schema and starts its thread.
    pub(crate) fn open(storage: &Storage, hub: Hub) -> Result<Self, OpenError> {
        let mut conn = match storage {
            Storage::Memory => Connection::open_in_memory()?,
            Storage::File(path) => {
                make_private(path).map_err(OpenError::File)?;
                Connection::open(path)?
            }
        };
        conn.busy_timeout(BUSY)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        // The cache is small because the whole worker has to be small: 2 MB.
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;
             PRAGMA cache_size = -2000; PRAGMA temp_store = MEMORY;",
        )?;
        schema::migrate(&mut conn)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("embedded-api-db".to_owned())
            .spawn(move || serve(&conn, queue, &hub))
            .map_err(OpenError::Thread)?;
        Ok(Self { jobs })
    }

    /// Runs a command and waits for its answer.
    ///
    /// # Cancellation
    ///
    /// Once queued, the command runs whether or not anybody still waits for the answer.
    pub(crate) async fn run<T, F>(&self, command: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        let (answer_tx, answer_rx) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let result = tx.attempt(command);
            Box::new(move |committed| {
                let result = match result {
                    Ok(_) if !committed => Err(Error::Unavailable),
                    result => result,
                };
                // The requester may have gone away; the command has run all the same.
                drop(answer_tx.send(result));
            })
        });
        self.jobs.send(job).await.map_err(|_| Error::Unavailable)?;
        answer_rx.await.map_err(|_| Error::Unavailable)?
    }
}

// === impl Tx ===

impl Tx<'_> {
    /// Stores an event, and tells it after the commit, unless it was told before.
    pub(crate) fn publish(&self, event: Event) -> Result<(), Error> {
        if events::insert(self, &event)? {
            self.outbox.borrow_mut().push(event);
        }
        Ok(())
    }

    /// Runs one command so that nothing of it stays when it fails.
    fn attempt<T>(
        &mut self,
        command: impl FnOnce(&mut Tx<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.now = now();
        let published = self.outbox.get_mut().len();
        self.prepare_cached("SAVEPOINT command")?.execute([])?;
        let result =
            catch_unwind(AssertUnwindSafe(|| command(self))).unwrap_or(Err(Error::Panicked));
        if result.is_err() {
            self.outbox.get_mut().truncate(published);
            self.prepare_cached("ROLLBACK TO command")?.execute([])?;
        }
        self.prepare_cached("RELEASE command")?.execute([])?;
        result
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn
    }
}

/// The time now, to the microsecond, which is what the database and the reference keep.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Makes the file, if it is not there, so that only its owner can read it: blocks may hold credentials. SQLite gives
/// the files beside it the same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options.open(path).map(drop)
}

/// Serves commands until every handle is gone.
fn serve(conn: &Connection, mut queue: mpsc::Receiver<Job>, hub: &Hub) {
    let mut answers = Vec::with_capacity(GROUP);
    while let Some(first) = queue.blocking_recv() {
        let mut tx = Tx {
            conn,
            now: now(),
            outbox: RefCell::default(),
        };
        let committed = group(&mut tx, first, &mut queue, &mut answers);
        if let Err(error) = &committed {
            tracing::error!(%error, "transaction of the embedded API failed");
        }
        if committed.is_ok() {
            for event in tx.outbox.take() {
                hub.publish(event);
            }
        }
        for answer in answers.drain(..) {
            answer(committed.is_ok());
        }
    }
}

/// Runs the first command and those that wait behind it in one transaction.
///
/// Outside of it each command would be committed by itself, although its answer says otherwise. So none runs when it cannot begin, and
/// none after SQLite has ended it, as it does when the disk is full. A command that is dropped is answered unavailable.
fn group(
    tx: &mut Tx<'_>,
    first: Job,
    queue: &mut mpsc::Receiver<Job>,
    answers: &mut Vec<Answer>,
) -> rusqlite::Result<()> {
    tx.prepare_cached("BEGIN")?.execute([])?;
    answers.push(first(tx));
    while answers.len() < GROUP && !tx.is_autocommit() {
        match queue.try_recv() {
            Ok(job) => answers.push(job(tx)),
            Err(_) => break,
        }
    }
    let committed = tx
        .prepare_cached("COMMIT")
        .and_then(|mut commit| commit.execute([]));
    if committed.is_err() && !tx.is_autocommit() {
        tx.execute_batch("ROLLBACK")?;
    }
    committed.map(drop)
}

#[cfg(test)]
pub(crate) mod tests;
