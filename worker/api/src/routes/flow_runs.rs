//! Flow runs, their states, and the leases on their concurrency slots.

use std::time::Duration;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    ApiError, Client,
    request::Call,
    routes::MAX_PAGE,
    types::{FlowRun, FlowRunFilter, FlowRunId, OrchestrationResult, ProposedState, State},
};

// === impl Client ===

impl Client {
    /// Reads a flow run. `GET /flow_runs/{id}`: 200, or 404 `Flow run not found`.
    pub async fn read_flow_run(&self, id: FlowRunId) -> Result<FlowRun, ApiError> {
        self.fetch(Call::get(&["flow_runs", &id.to_string()])).await
    }

    /// Reads every state a flow run has been in, the first one first. `GET /flow_run_states/?flow_run_id=…`: 200; an unknown flow run has
    /// had none.
    pub async fn list_flow_run_states(&self, id: FlowRunId) -> Result<Vec<State>, ApiError> {
        let call = Call::get(&["flow_run_states", ""]).query(format!("flow_run_id={id}"));
        self.fetch(call).await
    }

    /// Reads flow runs, the latest expected start first. `POST /flow_runs/filter`: 200.
    ///
    /// Without a limit it is one page of 200, as for the reference.
    pub async fn list_flow_runs(&self, filter: &FlowRunFilter) -> Result<Vec<FlowRun>, ApiError> {
        let FlowRunFilter {
            ids,
            state_types,
            work_pool,
            limit,
        } = filter;
        let mut flow_runs = Map::new();
        if let Some(ids) = ids {
            flow_runs.insert("id".to_owned(), json!({ "any_": ids }));
        }
        if let Some(types) = state_types {
            let types: Vec<&str> = types.iter().map(crate::types::StateType::as_str).collect();
            flow_runs.insert("state".to_owned(), json!({ "type": { "any_": types } }));
        }
        let mut body = Map::new();
        body.insert("sort".to_owned(), json!("EXPECTED_START_TIME_DESC"));
        body.insert("flow_runs".to_owned(), Value::Object(flow_runs));
        if let Some(pool) = work_pool {
            body.insert(
                "work_pools".to_owned(),
                json!({ "name": { "any_": [pool] } }),
            );
        }
        let limit = limit.unwrap_or(MAX_PAGE);
        self.list(&["flow_runs", "filter"], &body, Some(limit))
            .await
    }

    /// Asks for a state, which the server may refuse, replace or put off.
    ///
    /// `POST /flow_runs/{id}/set_state`: 201 when a state was stored, also another one than asked for; 200 when none was; 404 for an unknown
    /// flow run; 422 for an unknown field. A proposal that is repeated with its transition id is answered with REJECT and the
    /// state it made.
    pub async fn propose_state(
        &self,
        id: FlowRunId,
        state: &ProposedState,
    ) -> Result<OrchestrationResult, ApiError> {
        self.set_state(id, state, false).await
    }

    /// Sets a state past all rules. `POST /flow_runs/{id}/set_state` with `force`: 201, 404 for an unknown flow run.
    pub async fn force_state(
        &self,
        id: FlowRunId,
        state: &ProposedState,
    ) -> Result<OrchestrationResult, ApiError> {
        self.set_state(id, state, true).await
    }

    async fn set_state(
        &self,
        id: FlowRunId,
        state: &ProposedState,
        force: bool,
    ) -> Result<OrchestrationResult, ApiError> {
        let body = json!({ "state": state, "force": force });
        let path = ["flow_runs", &id.to_string(), "set_state"];
        self.fetch(Call::post(&path).json(&body)).await
    }

    /// Adds labels to a flow run; those it has are kept. `PATCH /flow_runs/{id}/labels`: 204.
    pub async fn update_labels(
        &self,
        id: FlowRunId,
        labels: &Map<String, Value>,
    ) -> Result<(), ApiError> {
        let path = ["flow_runs", &id.to_string(), "labels"];
        self.execute(Call::patch(&path).json(labels)).await
    }

    /// Stores what names a flow run's infrastructure. `PATCH /flow_runs/{id}`: 204, 404 for an unknown flow run.
    pub async fn set_infrastructure_id(
        &self,
        id: FlowRunId,
        infrastructure_id: &str,
    ) -> Result<(), ApiError> {
        let body = json!({ "infrastructure_pid": infrastructure_id });
        self.execute(Call::patch(&["flow_runs", &id.to_string()]).json(&body))
            .await
    }

    /// Keeps a deployment's concurrency slot for this much longer.
    ///
    /// `POST /v2/concurrency_limits/leases/{id}/renew`: 204; 410 for a lease that has ended, which is [`ApiError::NotFound`].
    pub async fn renew_lease(&self, lease_id: Uuid, duration: Duration) -> Result<(), ApiError> {
        let id = lease_id.to_string();
        let path = ["v2", "concurrency_limits", "leases", &id, "renew"];
        let body = json!({ "lease_duration": duration.as_secs_f64() });
        self.execute(Call::post(&path).json(&body)).await
    }
}
