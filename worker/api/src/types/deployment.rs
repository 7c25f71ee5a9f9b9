//! Flows and deployments: what a flow run was made from.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{BlockDocumentId, DeploymentId, FlowId, WorkQueueId};

/// A workflow's definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Names it.
    pub id: FlowId,
    /// The name people see.
    pub name: String,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Everything else, kept as it came: the name template of a job may ask for any field.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A flow plus where its code is and how it is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Names it.
    pub id: DeploymentId,
    /// The name people see.
    pub name: String,
    /// The flow it deploys.
    pub flow_id: FlowId,
    /// When it was last changed.
    #[serde(default)]
    pub updated: Option<Timestamp>,
    /// Its version.
    #[serde(default)]
    pub version: Option<String>,
    /// Where the flow is in the code: `flows.py:hello` or `pkg.mod.hello`. Absent for a plain command.
    #[serde(default)]
    pub entrypoint: Option<String>,
    /// The directory the code is in, for deployments without pull steps.
    #[serde(default)]
    pub path: Option<String>,
    /// How the code gets to the job. Absent and empty are different to Prefect, but not to a worker.
    #[serde(default)]
    pub pull_steps: Option<Vec<PullStep>>,
    /// The storage block the code is in, for deployments older than pull steps.
    #[serde(default)]
    pub storage_document_id: Option<BlockDocumentId>,
    /// Job variables that fill the pool's template.
    #[serde(default)]
    pub job_variables: Map<String, Value>,
    /// Default parameters.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// The schema of the parameters.
    #[serde(default)]
    pub parameter_openapi_schema: Option<Value>,
    /// Whether the server checks parameters against that schema.
    #[serde(default)]
    pub enforce_parameter_schema: bool,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether its schedules are held.
    #[serde(default)]
    pub paused: bool,
    /// The pool its flow runs go to.
    #[serde(default)]
    pub work_pool_name: Option<String>,
    /// The queue its flow runs go to.
    #[serde(default)]
    pub work_queue_name: Option<String>,
    /// The id of that queue.
    #[serde(default)]
    pub work_queue_id: Option<WorkQueueId>,
    /// What happens when its concurrency limit is reached.
    #[serde(default)]
    pub concurrency_options: Option<ConcurrencyOptions>,
    /// Everything else, kept as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What happens when a deployment's concurrency limit is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConcurrencyOptions {
    /// `ENQUEUE` or `CANCEL_NEW`.
    pub collision_strategy: String,
    /// Seconds a slot is held for a run that was claimed and has not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<u32>,
}

/// One pull step as it is stored: `{"prefect.deployments.steps.git_clone": {"repository": …}}`.
///
/// It is kept as JSON here; what it means is decided by whoever runs it.
pub type PullStep = Map<String, Value>;
