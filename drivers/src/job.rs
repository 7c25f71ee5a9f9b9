//! Plain data across the boundary between the worker and a driver.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use worker_config::DriverKind;

/// Identifies one attempt at one flow run. Names of infrastructure are made from it, so that creating twice finds the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunKey {
    /// The flow run.
    pub flow_run: Uuid,
    /// Which attempt at it, counted from 1 by the worker that claimed it.
    pub attempt: u32,
}

/// Whose infrastructure it is: a worker only ever touches its own.
///
/// It is the same for a worker and for the process that replaces it after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner(pub String);

/// Everything a driver needs to know to plan one attempt. Printing shows names only where a value may be a credential.
#[derive(Clone)]
pub struct Job {
    /// Which attempt this is.
    pub key: RunKey,
    /// Whose it is.
    pub owner: Owner,
    /// The name for people: the configured one, else the flow run's.
    pub name: String,
    /// What to run.
    pub program: Program,
    /// The environment the worker prepared: settings, identity, then what template and job variables ask for.
    pub environment: Environment,
    /// The labels the worker prepared.
    pub labels: BTreeMap<String, String>,
    /// The job configuration: the pool's template after resolution, still JSON. The driver reads its own fields from it.
    pub configuration: Map<String, Value>,
    /// The directory pull steps produced, if the worker ran them, on the worker's own file system.
    pub workspace: Option<PathBuf>,
}

/// What a job runs. Printing shows nothing of a command: any word of it may be a credential.
#[derive(Clone, PartialEq, Eq)]
pub enum Program {
    /// Prefect's engine, directly on the entrypoint (`python -m prefect.engine`), because the code is already there.
    Engine {
        /// Where the flow is: `flows.py:hello` or `pkg.mod.hello`.
        entrypoint: String,
    },
    /// The driver's default: `prefect flow-run execute`, which pulls the code itself.
    Execute,
    /// A command somebody configured, split as a POSIX shell would, run without a shell.
    Command {
        /// As it was written.
        line: String,
        /// Whether it is expected to run Prefect's engine, which then reports the flow run's states itself.
        engine: bool,
    },
}

/// Environment variables. Printing shows names only: any value may be a credential.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Environment(pub BTreeMap<String, String>);

/// What a driver needs to find the infrastructure of an attempt again, also after a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handle {
    /// The driver that made it.
    pub kind: DriverKind,
    /// The version of `state`'s layout. A driver refuses one it does not know.
    pub version: u16,
    /// The attempt.
    pub key: RunKey,
    /// What Prefect calls `infrastructure_pid`, in its format for this kind.
    pub infrastructure_id: String,
    /// What only the driver understands. It holds no secret: it is written to the journal.
    pub state: Value,
}

/// How far a job has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// The infrastructure exists and has not started; why, if known.
    Pending(Option<String>),
    /// It runs.
    Running,
    /// It has ended.
    Exited(Outcome),
}

/// How a job ended, and who ended it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// It exited by itself. For Prefect's engine, whether it said over the control session that it had reported.
    Exited {
        /// The exit code.
        code: i32,
        /// Whether the engine confirmed that the API knows the end.
        reported: bool,
    },
    /// A signal ended it.
    Signalled {
        /// The signal's number.
        signal: i32,
        /// Whether we sent it.
        by_us: bool,
    },
    /// The kernel or the engine ended it for lack of memory.
    OutOfMemory {
        /// The limit in bytes, if there was one.
        limit: Option<u64>,
    },
    /// It never started; why.
    NeverStarted {
        /// Why, for a person: it names the program, directory or image.
        reason: String,
    },
    /// It is gone and nobody knows how it ended.
    Lost {
        /// What was seen.
        reason: String,
    },
}

/// Something that happened to the infrastructure of a job, for whoever follows such things. How far the job has come is told apart from it, as a [`Phase`].
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// The attempt.
    pub key: RunKey,
    /// Names it, whoever tells it and how often.
    pub id: Uuid,
    /// What happened, in the words of the reference for this engine: `prefect.kubernetes.pod.running`.
    pub name: String,
    /// When.
    pub occurred: Timestamp,
    /// What it happened to, as labels: its `prefect.resource.id`, and what else there is to know of it.
    pub resource: BTreeMap<String, String>,
    /// What the worker's labels on the infrastructure say of the flow run, as far as the engine kept them: `prefect.io/flow-run-id` and its like.
    pub labels: BTreeMap<String, String>,
    /// The happening that it surely comes after.
    pub follows: Option<Uuid>,
    /// An earlier process may have told it, at this time at the earliest. None: it is new.
    pub told_since: Option<Timestamp>,
}

/// A request to end a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequest {
    /// What the engine is told, where it can be told.
    pub intent: Intent,
    /// Time between asking and forcing.
    pub grace: Duration,
}

/// What a stop means for the flow run, as Prefect's control session spells it (runner control channel, 3.8.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    /// The flow run is cancelled: the engine runs its `on_cancellation` hooks.
    Cancel,
    /// The flow run will be started again: the engine leaves its state alone.
    Reschedule,
    /// Nothing is said: a plain polite signal.
    Plain,
}

/// Which of a job's outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line a job wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written.
    pub stream: OutputStream,
    /// When it was written, or read where the engine does not say.
    pub timestamp: Timestamp,
    /// The text, without its line end; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Where to go on after this line.
    pub next: LogCursor,
}

/// A place in a job's output. Drivers agree only on that the default is the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCursor {
    /// Bytes of standard output that were read, or what the driver counts instead.
    pub stdout: u64,
    /// The same for standard error.
    pub stderr: u64,
}

// === impl RunKey ===

impl fmt::Display for RunKey {
    /// `<flow run id>.<attempt>`: legal in file names, labels and container names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.flow_run, self.attempt)
    }
}

impl std::str::FromStr for RunKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (flow_run, attempt) = text.split_once('.').ok_or(())?;
        Ok(Self {
            flow_run: flow_run.parse().map_err(drop)?,
            attempt: attempt.parse().map_err(drop)?,
        })
    }
}

// === impl Job ===

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            owner,
            name,
            program,
            environment,
            labels,
            configuration,
            workspace,
        } = self;
        f.debug_struct("Job")
            .field("key", key)
            .field("owner", owner)
            .field("name", name)
            .field("program", program)
            .field("environment", environment)
            .field("labels", &Names(labels.keys()))
            .field("configuration", &Names(configuration.keys()))
            .field("workspace", workspace)
            .finish()
    }
}

/// Prints names without their values.
struct Names<I>(I);

impl<I: Iterator<Item: fmt::Debug> + Clone> fmt::Debug for Names<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.clone()).finish()
    }
}

// === impl Program ===

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine { entrypoint } => f
                .debug_struct("Engine")
                .field("entrypoint", entrypoint)
                .finish(),
            Self::Execute => f.write_str("Execute"),
            Self::Command { line: _, engine } => f
                .debug_struct("Command")
                .field("engine", engine)
                .finish_non_exhaustive(),
        }
    }
}

// === impl Environment ===

impl Environment {
    /// That of this process. A variable whose name or value is not text cannot be passed on as one.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os();
        let texts = variables.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self(texts.collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
