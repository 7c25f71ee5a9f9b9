//! What every life needs of the world, gathered once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use worker_api::{
    Client,
    types::{Deployment, DeploymentId, Flow, FlowId, WorkPool, WorkPoolId},
};
use worker_config::{Secret, policy::Policy, settings::Settings};
use worker_drivers::{Driver, Owner};

use crate::{
    board::Board, emitter::Emitter, fresh::Fresh, journal::Journal, metrics::Metrics, pull::Puller,
    run_log::RunLog, state_dir::StateDir,
};

/// The services that lives share. One per worker.
#[derive(Debug)]
pub(crate) struct Services {
    /// The Prefect API.
    pub(crate) client: Client,
    /// The engine.
    pub(crate) driver: Arc<dyn Driver>,
    /// What is claimed, on disk.
    pub(crate) journal: Journal,
    /// The way into the logs of flow runs.
    pub(crate) run_log: RunLog,
    /// The way into the server's event feed.
    pub(crate) emitter: Emitter,
    /// The pool's id, once the server has said it; nothing is claimed before.
    pub(crate) pool_id: watch::Sender<Option<WorkPoolId>>,
    /// The pool as the worker channel shows it, while there is one.
    pub(crate) channel_pool: watch::Sender<Option<WorkPool>>,
    /// Numbers for operators.
    pub(crate) metrics: Arc<Metrics>,
    /// What goes on, for the status page.
    pub(crate) board: Arc<Board>,
    /// Who this worker is.
    pub(crate) identity: Identity,
    /// How this worker is set up. What may change while it runs is read here, by whoever needs it, when it is needed.
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    /// The lowest layer of each job's environment.
    pub(crate) job_environment: BTreeMap<String, Secret>,
    /// What gets the code of deployments.
    pub(crate) puller: Puller,
    /// The directory of this worker, with the workspaces. It stays taken for as long as a life or a pull may still write there.
    pub(crate) state_dir: Arc<StateDir>,
    /// Whether the output of jobs may be written to the worker's own.
    pub(crate) echo: bool,
    /// Reads of deployments, shared by the lives that ask at the same time.
    pub(crate) deployments: Fresh<DeploymentId, Deployment>,
    /// Reads of flows.
    pub(crate) flows: Fresh<FlowId, Flow>,
    /// Reads of the pool, while no channel shows it: its template is read again for each poll's flow runs.
    pub(crate) pools: Fresh<String, WorkPool>,
}

/// Who this worker is, to the server and to its infrastructure.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Its name on the server.
    pub(crate) worker: String,
    /// The name of the pool it polls.
    pub(crate) pool: String,
    /// Whose infrastructure it touches: the same after a restart.
    pub(crate) owner: Owner,
}

// === impl Services ===

impl Services {
    /// What the operator allows, as it is now.
    pub(crate) fn policy(&self) -> Policy {
        self.settings.borrow().policy.clone()
    }

    /// Time between asking a job to end and forcing it, as it is now.
    pub(crate) fn stop_grace(&self) -> Duration {
        self.settings.borrow().worker.stop_grace
    }
}
