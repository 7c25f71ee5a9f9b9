//! Flows, deployments, and flow runs made from them.

use serde_json::{Map, Value, json};

use crate::{
    ApiError, Client,
    request::Call,
    types::{Deployment, DeploymentId, Flow, FlowId, FlowRun},
};

// === impl Client ===

impl Client {
    /// Reads a deployment. `GET /deployments/{id}`: 200, or 404 `Deployment not found`.
    pub async fn read_deployment(&self, id: DeploymentId) -> Result<Deployment, ApiError> {
        self.fetch(Call::get(&["deployments", &id.to_string()]))
            .await
    }

    /// Reads a deployment by its flow's name and its own. `GET /deployments/name/{flow}/{deployment}`: 200, 404.
    pub async fn read_deployment_by_name(
        &self,
        flow: &str,
        deployment: &str,
    ) -> Result<Deployment, ApiError> {
        self.fetch(Call::get(&["deployments", "name", flow, deployment]))
            .await
    }

    /// Creates a deployment, or replaces the one of its flow and name. `POST /deployments/`: 201 when it is new, else 200; 404 for an
    /// unknown pool or queue; 422 for an unknown field.
    pub async fn create_deployment(&self, deployment: &Value) -> Result<Deployment, ApiError> {
        self.fetch(Call::post(&["deployments", ""]).json(deployment))
            .await
    }

    /// Creates a flow, or finds the one of that name. `POST /flows/`: 201 when it is new, else 200.
    pub async fn create_flow(&self, name: &str) -> Result<Flow, ApiError> {
        let body = json!({ "name": name });
        self.fetch(Call::post(&["flows", ""]).json(&body)).await
    }

    /// Reads a flow. `GET /flows/{id}`: 200, or 404.
    pub async fn read_flow(&self, id: FlowId) -> Result<Flow, ApiError> {
        self.fetch(Call::get(&["flows", &id.to_string()])).await
    }

    /// Creates a flow run of a deployment that is due now. `POST /deployments/{id}/create_flow_run`: 201; 404 for an unknown
    /// deployment; 409 for parameters that do not fit its schema.
    ///
    /// A retry after a lost answer creates no second one: the idempotency key is made once for the call.
    pub async fn create_flow_run(
        &self,
        deployment: DeploymentId,
        parameters: Map<String, Value>,
        job_variables: Option<Map<String, Value>>,
        name: Option<String>,
        tags: Vec<String>,
    ) -> Result<FlowRun, ApiError> {
        let mut body = json!({
            "state": { "type": "SCHEDULED" },
            "parameters": parameters,
            "tags": tags,
            "idempotency_key": uuid::Uuid::new_v4(),
        });
        if let Some(variables) = job_variables {
            body["job_variables"] = Value::Object(variables);
        }
        if let Some(name) = name {
            body["name"] = Value::String(name);
        }
        let path = ["deployments", &deployment.to_string(), "create_flow_run"];
        self.fetch(Call::post(&path).json(&body)).await
    }
}
