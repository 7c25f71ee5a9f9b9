//! The driver contract. It is mostly its comment.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::watch;

use worker_config::{DriverKind, policy::Policy};

use crate::{
    examination::{Examination, Finding},
    job::{Handle, Happening, Job, LogCursor, LogLine, Outcome, Owner, Phase, RunKey, StopRequest},
    plan::Plan,
};

/// Runs jobs on one kind of infrastructure.
///
/// One instance serves one worker for its whole life and is shared by all its flow runs: every method may be called
/// at any time from many tasks at once. Calls about the *same* attempt come in this order, and the caller waits for
/// each before the next: `plan`, `submit`, then any mix of `recover`, `logs` and `stop`, then `destroy`. After a restart
/// of the worker an attempt may begin at `recover` or at a second `submit`.
///
/// *Ending things.* Only `stop` ends work. Dropping the driver, dropping any future of it, or the death of the worker
/// leaves jobs running and findable by `list_owned`. Stop is not destroy is not detach is not drop.
///
/// *Already done is success.* Stopping what has ended and destroying what is gone return `Ok`.
///
/// *Absent is not unreachable.* No method reports an engine that cannot be asked as a job that does not exist.
///
/// *Deadlines.* Every call to an engine has one; a call that cannot finish answers [`DriverError::Unavailable`].
/// Long phases (pulling an image, waiting for a node) belong to `submit`'s own progress or to [`Phase::Pending`] events.
#[async_trait]
pub trait Driver: fmt::Debug + Send + Sync {
    /// The work pool type served. Constant.
    fn kind(&self) -> DriverKind;

    /// The base job template that a new pool of this type gets, as JSON with `job_configuration` and `variables`.
    fn default_template(&self) -> serde_json::Value;

    /// Whether the engine can take work, as a value that changes over time. While it is [`Health::Down`] the worker claims
    /// nothing, and goes on watching what runs.
    fn health(&self) -> watch::Receiver<Health>;

    /// Turns a job into what the engine will be asked for, and applies the operator's policy. Pure: no I/O, no clock.
    ///
    /// # Errors
    /// [`DriverError::Invalid`] for what can never run and [`DriverError::Denied`] for what policy forbids; both name the field.
    fn plan(&self, job: &Job, policy: &Policy) -> Result<Plan, DriverError>;

    /// Makes the infrastructure of an attempt and starts it. Returns when it surely exists.
    ///
    /// Idempotent per [`RunKey`]: when the attempt's infrastructure exists already, whatever its phase, nothing is created and the
    /// answer is [`Submitted::Adopted`]. Dropping the future leaves either nothing or something that `list_owned` sees.
    ///
    /// # Errors
    /// After an error nothing of the attempt is left running, unless the error is [`DriverError::Unavailable`], which leaves that
    /// open: `list_owned` or a second `submit` settles it.
    async fn submit(&self, plan: &Plan) -> Result<Submitted, DriverError>;

    /// What became of an attempt, asked once. Called at start-up for every attempt in the journal, and when the worker has a doubt.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] for a handle of an unknown version. An engine that does not answer is not an error but
    /// [`Recovered::Unreachable`].
    async fn recover(&self, handle: &Handle) -> Result<Recovered, DriverError>;

    /// Whether what an earlier process left of an attempt is enough to find its job: a handle, or none where it may just have asked for one. False:
    /// `learn_way` must come before anything else of the attempt can be known.
    fn knows_way_to(&self, _handle: Option<&Handle>) -> bool {
        true
    }

    /// Learns from an attempt's plan where its infrastructure is, should there be any, and begins nothing. For engines to which what leads there is
    /// a credential, which no handle keeps.
    ///
    /// # Errors
    /// As for `submit`, but that nothing was asked for.
    async fn learn_way(&self, _plan: &Plan) -> Result<(), DriverError> {
        Ok(())
    }

    /// What happens to all jobs of an owner, as one stream that never ends. Called once per worker.
    ///
    /// It begins with a [`JobEvent::Snapshot`]. When the engine's watch is lost it yields [`JobEvent::WatchLost`], then, when it can be
    /// watched again, a fresh snapshot: whoever compares snapshots with what it knows misses no end. An end may be told more than
    /// once. A slow consumer delays events, never jobs.
    fn events(&self, owner: &Owner) -> BoxStream<'static, JobEvent>;

    /// What a job writes, from a place on, in the order it was written per stream, until the job has ended and everything was read.
    ///
    /// Dropping the stream costs nothing, and a new one from the last line's `next` neither loses nor repeats a line. A line longer than the
    /// driver's limit comes in pieces. When output is gone before it was read, a line says so.
    fn logs(&self, handle: &Handle, from: LogCursor) -> LogStream;

    /// Ends a job: asks politely, waits out the grace, then forces; the whole tree of what it started. Returns when the request is on its
    /// way; the end itself arrives as an event. Calling again with a shorter grace shortens the wait.
    ///
    /// # Errors
    /// Only [`DriverError::Unavailable`]: the job may still run, and stopping should be tried again.
    async fn stop(&self, handle: &Handle, request: StopRequest) -> Result<(), DriverError>;

    /// Undoes `submit`: removes the infrastructure with its files, logs and names. If it still runs it is forced to end first.
    /// Safe when `submit` failed half-way or never happened, hence the key instead of a handle.
    ///
    /// # Errors
    /// Only [`DriverError::Unavailable`].
    async fn destroy(&self, key: RunKey) -> Result<(), DriverError>;

    /// Everything of this owner that still exists, whatever its phase: for recovery, and for the janitor.
    ///
    /// # Errors
    /// Only [`DriverError::Unavailable`]; an incomplete list is never an answer.
    async fn list_owned(&self, owner: &Owner) -> Result<Vec<Owned>, DriverError>;

    /// Looks at the engine as an operator would: whether it answers, which it is, what this worker may do there. Asked by a person's command,
    /// never by the loop, and changes nothing. What could not be found out is a finding, too.
    async fn examine(&self, examination: Examination<'_>) -> Vec<Finding>;
}

/// The lines of one job.
pub type LogStream = BoxStream<'static, Result<LogLine, DriverError>>;

/// The answer to [`Driver::submit`].
#[derive(Clone, Debug, PartialEq)]
pub enum Submitted {
    /// It was made now.
    Created(Handle),
    /// It was there already.
    Adopted(Handle),
}

/// The answer to [`Driver::recover`].
#[derive(Clone, Debug, PartialEq)]
pub enum Recovered {
    /// It exists and has not ended.
    Running,
    /// It has ended.
    Exited(Outcome),
    /// The engine was asked and does not have it.
    Missing,
    /// The engine could not be asked.
    Unreachable {
        /// Why.
        reason: String,
    },
}

/// Something of ours that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned {
    /// What finds it again.
    pub handle: Handle,
    /// How far it has come.
    pub phase: Phase,
}

/// One thing that happened to a job, or to the watching of jobs.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEvent {
    /// A job has come to a phase.
    Changed {
        /// The attempt.
        key: RunKey,
        /// Its phase now.
        phase: Phase,
    },
    /// Something happened to a job's infrastructure that says nothing about its phase. Told once, and again after a restart.
    Happened(Box<Happening>),
    /// Everything that exists now. What a consumer knows and the snapshot lacks is gone.
    Snapshot(Vec<Owned>),
    /// Events may have been missed from here to the next snapshot.
    WatchLost {
        /// Why.
        reason: String,
    },
}

/// Whether an engine can take work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Up,
    /// It cannot, and why.
    Down {
        /// Why, for a person.
        reason: String,
    },
}

/// Why a driver could not do what was asked, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The job can never run as it is configured. Report it; do not try again.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field of the job configuration, or the program or file it names.
        field: String,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// The operator or the engine forbids it. Report it; do not try again.
    #[error("{what} is not allowed: {reason}")]
    Denied {
        /// What was asked for.
        what: String,
        /// Who forbids it.
        reason: String,
    },
    /// Something the job needs does not exist: a program, a directory, an image.
    #[error("{what} not found")]
    NotFound {
        /// What is missing, with its full name.
        what: String,
    },
    /// The name is taken by something that is not ours. It was left alone.
    #[error("{what} exists and does not belong to this worker")]
    Conflict {
        /// What is in the way.
        what: String,
    },
    /// There is no room at present. Try again.
    #[error("no room: {reason}")]
    Quota {
        /// What is exhausted.
        reason: String,
        /// When to try again, if the engine said.
        retry_after: Option<Duration>,
    },
    /// The engine does not answer, or answers that it cannot now. Try again.
    #[error("{engine} is unavailable: {reason}")]
    Unavailable {
        /// Which engine.
        engine: &'static str,
        /// What it said.
        reason: String,
    },
    /// This driver cannot do that, or does not know this version of a handle.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
}

// === impl Submitted ===

impl Submitted {
    /// The handle, however it came about.
    pub fn into_handle(self) -> Handle {
        match self {
            Self::Created(handle) | Self::Adopted(handle) => handle,
        }
    }
}

// === impl DriverError ===

impl DriverError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Quota { .. } | Self::Unavailable { .. })
    }
}
