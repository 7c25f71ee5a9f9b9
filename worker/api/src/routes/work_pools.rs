//! Work pools, their queues and workers, and the poll.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    ApiError, Client,
    request::Call,
    routes::MAX_PAGE,
    types::{ScheduledFlowRun, WorkPool, WorkPoolCreate, WorkQueue, WorkerId, WorkerRecord},
};

// === impl Client ===

impl Client {
    /// Reads a pool. `GET /work_pools/{name}`: 200, or 404 `Work pool "x" not found.`
    pub async fn read_work_pool(&self, name: &str) -> Result<WorkPool, ApiError> {
        self.fetch(Call::get(&["work_pools", name])).await
    }

    /// Creates a pool. `POST /work_pools/`: 201 with the pool, 409 when the name is taken, 422 for a name with one of `/ % & > <`.
    pub async fn create_work_pool(&self, pool: &WorkPoolCreate) -> Result<WorkPool, ApiError> {
        self.fetch(Call::post(&["work_pools", ""]).json(pool)).await
    }

    /// Stores a base job template in a pool. `PATCH /work_pools/{name}`: 204. The server checks that it is one: else 422.
    pub async fn update_work_pool_template(
        &self,
        name: &str,
        template: &Value,
    ) -> Result<(), ApiError> {
        let body = json!({ "base_job_template": template });
        self.execute(Call::patch(&["work_pools", name]).json(&body))
            .await
    }

    /// Changes what is given of a pool, by the fields of the API (3.8.8: `description`, `is_paused`, `base_job_template`, `concurrency_limit`).
    /// `PATCH /work_pools/{name}`: 204, 404 for an unknown pool, 422 for what the server does not take.
    pub async fn update_work_pool(
        &self,
        name: &str,
        fields: &Map<String, Value>,
    ) -> Result<(), ApiError> {
        self.execute(Call::patch(&["work_pools", name]).json(fields))
            .await
    }

    /// Removes a pool with its queues. `DELETE /work_pools/{name}`: 204, 404 for an unknown pool.
    pub async fn delete_work_pool(&self, name: &str) -> Result<(), ApiError> {
        self.execute(Call::delete(&["work_pools", name])).await
    }

    /// Reads all pools. `POST /work_pools/filter`: 200.
    pub async fn list_work_pools(&self) -> Result<Vec<WorkPool>, ApiError> {
        self.list(&["work_pools", "filter"], &Map::new(), None)
            .await
    }

    /// Reads the queues of a pool. `POST /work_pools/{name}/queues/filter`: 200, 404 for an unknown pool.
    pub async fn list_work_queues(&self, pool: &str) -> Result<Vec<WorkQueue>, ApiError> {
        let path = ["work_pools", pool, "queues", "filter"];
        self.list(&path, &Map::new(), None).await
    }

    /// Reads the workers of a pool. `POST /work_pools/{name}/workers/filter`: 200, 404 for an unknown pool.
    pub async fn list_workers(&self, pool: &str) -> Result<Vec<WorkerRecord>, ApiError> {
        let path = ["work_pools", pool, "workers", "filter"];
        self.list(&path, &Map::new(), None).await
    }

    /// Says that a worker lives, and when to expect the next word of it.
    ///
    /// `POST /work_pools/{name}/workers/heartbeat`: 204, 404 for an unknown pool. Cloud is asked for the worker's id until it gave one
    /// (200, the id as bare text), and asked without when it refuses (422), as the reference does.
    pub async fn send_heartbeat(
        &self,
        pool: &str,
        worker_name: &str,
        interval: Duration,
    ) -> Result<(), ApiError> {
        let path = ["work_pools", pool, "workers", "heartbeat"];
        // The server counts in whole seconds and refuses 0.
        let seconds = interval.as_secs().max(1);
        let body = json!({ "name": worker_name, "heartbeat_interval_seconds": seconds });
        let heartbeat = Call::post(&path).json(&body);
        if !self.shared.cloud || self.worker_id().is_some() {
            return self.execute(heartbeat).await;
        }
        let mut asking = body.clone();
        asking["return_id"] = json!(true);
        asking["metadata"] = crate::channel::metadata();
        match self.send(&Call::post(&path).json(&asking)).await {
            Ok(answer) => {
                self.learn_worker_id(&answer);
                Ok(())
            }
            Err(ApiError::Invalid { .. }) => self.execute(heartbeat).await,
            Err(error) => Err(error),
        }
    }

    /// Takes a worker off a pool's list. `DELETE /work_pools/{name}/workers/{worker}`: 204, 404 when there is none.
    pub async fn delete_worker(&self, pool: &str, worker_name: &str) -> Result<(), ApiError> {
        let path = ["work_pools", pool, "workers", worker_name];
        self.execute(Call::delete(&path)).await
    }

    /// Polls: reads the flow runs that are due before a time, by priority of their queue and then by time.
    ///
    /// No queues means all of them. At most 200 can be asked for. `POST /work_pools/{name}/get_scheduled_flow_runs`: 200, 404 for an
    /// unknown pool or queue, 422 for a limit above 200. It also marks pool, queues and deployments as ready.
    ///
    /// A flow run that cannot be read, such as one of a later release, is left out with a warning: it must not hold up the others.
    pub async fn scheduled_flow_runs(
        &self,
        pool: &str,
        queues: &[String],
        scheduled_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<ScheduledFlowRun>, ApiError> {
        let path = ["work_pools", pool, "get_scheduled_flow_runs"];
        let mut limit = limit.min(MAX_PAGE);
        loop {
            let body = json!({
                "work_queue_names": queues,
                "scheduled_before": scheduled_before,
                "limit": limit,
            });
            let call = Call::post(&path).reading().json(&body);
            match self.fetch::<Vec<Box<RawValue>>>(call).await {
                Err(ApiError::TooLong { .. }) if limit > 1 => limit /= 2,
                entries => return Ok(entries?.iter().filter_map(|one| readable(one)).collect()),
            }
        }
    }

    fn learn_worker_id(&self, answer: &[u8]) {
        let text = String::from_utf8_lossy(answer);
        if let Ok(id) = text.trim().trim_matches('"').parse::<WorkerId>() {
            // Two heartbeats at once learn the same id.
            self.caller.id.get_or_init(|| id);
        }
    }
}

// === functions ===

/// What is read of a flow run that cannot be read: whose it is.
#[derive(Deserialize)]
struct Named {
    flow_run: NamedFlowRun,
}

#[derive(Deserialize)]
struct NamedFlowRun {
    id: String,
}

fn readable(entry: &RawValue) -> Option<ScheduledFlowRun> {
    let id = || {
        serde_json::from_str(entry.get())
            .map_or_else(|_| "?".to_owned(), |named: Named| named.flow_run.id)
    };
    let mut source = serde_json::Deserializer::from_str(entry.get());
    serde_path_to_error::deserialize(&mut source)
        .inspect_err(|error| {
            tracing::warn!(flow_run_id = id(), at = %error.path(), "cannot read a scheduled flow run, so it is left to other workers");
        })
        .ok()
}
