//! What travels between a worker and the API, as types.
//!
//! Fields are those a worker or the embedded API needs. What a newer server adds is ignored when it is
//! read and never sent, because Prefect refuses unknown fields with 422 (seen on 3.8.8).

mod block;
mod deployment;
mod event;
mod flow_run;
mod id;
mod log;
mod state;
mod work_pool;

pub use block::{BlockDocument, Variable};
pub use deployment::{ConcurrencyOptions, Deployment, Flow, PullStep};
pub use event::{Event, EventFilter, ReceivedEvent, Resource};
pub use flow_run::{FlowRun, FlowRunFilter, ScheduledFlowRun};
pub use id::{
    BlockDocumentId, DeploymentId, FlowId, FlowRunId, StateId, TransitionId, WorkPoolId,
    WorkQueueId, WorkerId,
};
pub use log::{LogEntry, LogLevel, StoredLogEntry};
pub use state::{
    OrchestrationDetails, OrchestrationResult, OrchestrationStatus, ProposedState, State,
    StateDetails, StateType,
};
pub use work_pool::{WorkPool, WorkPoolCreate, WorkPoolStatus, WorkQueue, WorkerRecord};
