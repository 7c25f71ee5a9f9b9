//! Logs of flow runs.

use serde_json::json;

use crate::{
    ApiError, Client,
    request::Call,
    routes::MAX_PAGE,
    types::{FlowRunId, LogEntry, StoredLogEntry},
};

// === impl Client ===

impl Client {
    /// Stores lines of logs. `POST /logs/`: 201. One entry that the server does not accept (422) costs the whole batch.
    pub async fn send_logs(&self, entries: &[LogEntry]) -> Result<(), ApiError> {
        self.execute(Call::post(&["logs", ""]).json(&entries)).await
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
