//! Flow runs: what a worker takes from its pool.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{DeploymentId, FlowId, FlowRunId, State, StateId, StateType, WorkPoolId, WorkQueueId};

/// One execution of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowRun {
    /// Names it.
    pub id: FlowRunId,
    /// The name people see, such as `wise-chicken`.
    pub name: String,
    /// The flow it executes.
    pub flow_id: FlowId,
    /// The deployment it was made from, if any.
    #[serde(default)]
    pub deployment_id: Option<DeploymentId>,
    /// When it was created.
    #[serde(default)]
    pub created: Option<Timestamp>,
    /// Names its present state.
    #[serde(default)]
    pub state_id: Option<StateId>,
    /// The type of its present state.
    #[serde(default)]
    pub state_type: Option<StateType>,
    /// The name of its present state.
    #[serde(default)]
    pub state_name: Option<String>,
    /// Its present state. Always absent in the answer to a poll (3.8.8).
    #[serde(default)]
    pub state: Option<State>,
    /// What the flow is called with.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// Job variables that override those of the deployment.
    #[serde(default)]
    pub job_variables: Option<Map<String, Value>>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Labels, some of which the server sets.
    #[serde(default)]
    pub labels: Option<Map<String, Value>>,
    /// How many times it has entered RUNNING.
    #[serde(default)]
    pub run_count: u32,
    /// When it was first meant to start.
    #[serde(default)]
    pub expected_start_time: Option<Timestamp>,
    /// When it is due.
    #[serde(default)]
    pub next_scheduled_start_time: Option<Timestamp>,
    /// When it first entered RUNNING.
    #[serde(default)]
    pub start_time: Option<Timestamp>,
    /// When it entered a final state.
    #[serde(default)]
    pub end_time: Option<Timestamp>,
    /// What names its infrastructure, in Prefect's format for the pool's type.
    #[serde(default)]
    pub infrastructure_pid: Option<String>,
    /// The queue it waits in.
    #[serde(default)]
    pub work_queue_id: Option<WorkQueueId>,
    /// The name of that queue.
    #[serde(default)]
    pub work_queue_name: Option<String>,
    /// The name of its pool.
    #[serde(default)]
    pub work_pool_name: Option<String>,
    /// Everything else, kept as it came: the name template of a job may ask for any field.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One entry of the answer to a poll.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduledFlowRun {
    /// The pool that was asked.
    pub work_pool_id: WorkPoolId,
    /// The queue the flow run waits in.
    pub work_queue_id: WorkQueueId,
    /// The flow run.
    pub flow_run: FlowRun,
}

/// Which flow runs to read. Absent conditions do not restrict.
#[derive(Clone, Debug, Default)]
pub struct FlowRunFilter {
    /// Of these.
    pub ids: Option<Vec<FlowRunId>>,
    /// In a state of one of these types.
    pub state_types: Option<Vec<StateType>>,
    /// In the work pool of this name.
    pub work_pool: Option<String>,
    /// At most so many; the server's own limit is 200.
    pub limit: Option<u32>,
}
