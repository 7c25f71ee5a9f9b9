//! Logs of flow runs.

use serde_json::{Value, json};

use crate::{
    ApiError, Client,
    request::Call,
    routes::MAX_PAGE,
    types::{FlowRunId, LogEntry, StoredLogEntry, WorkerId},
};

// === impl Client ===

impl Client {
    /// Stores lines of logs. `POST /logs/`: 201. One entry that the server does not accept (422) costs the whole batch.
    ///
    /// Cloud shows what a worker says of a flow run on the worker's page too, by the worker's id, which a server refuses.
    pub async fn send_logs(&self, entries: &[LogEntry]) -> Result<(), ApiError> {
        let call = Call::post(&["logs", ""]);
        let call = match self.worker_id() {
            Some(worker) if self.is_cloud() => {
                let marked: Vec<_> = entries.iter().map(|entry| mark(entry, worker)).collect();
                call.json(&marked)
            }
            _ => call.json(&entries),
        };
        self.execute(call).await
    }

    /// Reads lines of a flow run's log, the oldest first, at most 200 at once. `POST /logs/filter`: 200; an unknown flow run has none.
    pub async fn read_logs(
        &self,
        flow_run: FlowRunId,
        offset: u32,
        limit: u32,
    ) -> Result<Vec<StoredLogEntry>, ApiError> {
        let body = json!({
            "logs": { "flow_run_id": { "any_": [flow_run] } },
            "sort": "TIMESTAMP_ASC",
            "offset": offset,
            "limit": limit.min(MAX_PAGE),
        });
        self.fetch(Call::post(&["logs", "filter"]).json(&body))
            .await
    }
}

// === functions ===

/// The logger of a worker that speaks of a flow run (3.8.8).
const OF_WORKER: &str = "prefect.flow_runs.worker";

fn mark(entry: &LogEntry, worker: WorkerId) -> Value {
    let mut marked = json!(entry);
    if entry.name == OF_WORKER {
        marked["worker_id"] = json!(worker);
    }
    marked
}
