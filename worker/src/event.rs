//! The vocabulary between the loop that decides and the parts that act.

use tokio::time::Instant;

use worker_api::types::{FlowRunId, ScheduledFlowRun};
use worker_drivers::{Happening, Health, JobEvent, RunKey};

use crate::{disk::Space, dispatcher::Limits, journal::Entry};

/// Something the loop learns.
#[derive(Debug)]
pub(crate) enum Event {
    /// A poll was answered.
    Polled {
        /// What is due, in the server's order.
        due: Vec<ScheduledFlowRun>,
        /// When.
        seen: Seen,
    },
    /// Attempts that an earlier process of this worker left behind.
    Recovered(Vec<Entry>),
    /// A flow run's life has come to the point where its infrastructure exists.
    Started(RunKey),
    /// A flow run's life is over, on whatever path; its slot is free.
    Ended(FlowRunId),
    /// The driver's engine said something.
    Job(JobEvent),
    /// It is time to look for cancelled flow runs.
    CancellationDue,
    /// The server wants these flow runs cancelled.
    Cancelled(Vec<FlowRunId>),
    /// Whether the engine takes work has changed.
    Driver(Health),
    /// Whether the pool can be served has changed; why not, if it cannot.
    Pool(Option<String>),
    /// How much room there is on the disks that matter.
    Disks(Vec<Space>),
    /// Somebody has paused this worker, which is why it is to claim nothing; None: or resumed it.
    Paused(Option<String>),
    /// What bounds the work is another thing from now on.
    Limits(Limits),
    /// Shutdown has come to a stage.
    Shutdown(Stage),
    /// Nothing happened for a while; time passed.
    Tick,
}

/// When a poll was made. Its answer is a picture of some moment in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) asked: Instant,
    pub(crate) answered: Instant,
}

/// Something the loop wants done.
#[derive(Debug)]
pub(crate) enum Command {
    /// Begin the life of a flow run.
    Start {
        /// The flow run, as the poll showed it.
        scheduled: Box<ScheduledFlowRun>,
        /// When the poll showed it.
        seen: Seen,
    },
    /// Continue a life from where the journal says it was.
    Resume(Box<Entry>),
    /// Tell a life what the engine said about its job.
    Observe(FlowRunId, Observation),
    /// Tell a life to end its job.
    Order(FlowRunId, Order),
    /// Tell whoever follows events what happened to a job's infrastructure.
    Tell(Box<Happening>),
    /// Tell the operator.
    Warn(String),
    /// Ask the server which of these are to be cancelled.
    LookForCancelled(Vec<FlowRunId>),
}

/// What a life learns about its job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Observation {
    /// It is in this phase.
    Phase(RunKey, worker_drivers::Phase),
    /// A complete snapshot lacked it.
    Absent,
}

/// What a life is told to do. Later ones outrank earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Nothing: go on.
    #[default]
    GoOn,
    /// End the job, because the flow run is cancelled.
    Cancel,
    /// End the job, because the worker was told to stop. It outranks a cancel because it also says that time is short.
    Stop,
}

/// How far shutdown has come. Each stage outranks those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Work as usual.
    Working,
    /// Claim nothing more, wait for what runs.
    Draining,
    /// Claim nothing more, finish what is between claim and start, leave what runs to the next process.
    LettingGo,
    /// End what runs, with grace.
    Stopping,
    /// Leave at once.
    Leaving,
}

/// Whether the poller may ask for work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It may, for so many flow runs.
    Open(u32),
    /// For none, and why. The pool is served all the same, and the server is to see that: it calls work queues and deployments that nobody
    /// polls not ready.
    Full(String),
    /// It may not, and why.
    Closed(String),
}
