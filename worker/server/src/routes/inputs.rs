//! `/flow_runs/{id}/input`, and the way out of a pause, which may bring an input.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use worker_api::types::{
    FlowRunId, OrchestrationDetails, OrchestrationResult, OrchestrationStatus, ProposedState,
    StateType,
};

use super::{App, made};
use crate::{
    body::{Body, Params},
    error::Error,
    store::{
        Tx,
        inputs::{self, InputCreate, InputFilter, InputView},
        runs, states,
    },
    validation::{self, Required},
};

#[derive(Debug, Default, Deserialize)]
struct Resumption {
    #[serde(default)]
    run_input: Option<Map<String, Value>>,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/flow_runs/{id}/input", post(create))
        .route("/flow_runs/{id}/input/filter", post(filter))
        .route("/flow_runs/{id}/input/{key}", get(read).delete(remove))
        .route("/flow_runs/{id}/resume", post(resume))
}

async fn create(
    State(app): State<App>,
    Params(run): Params<FlowRunId>,
    Body(input): Body<InputCreate>,
) -> Result<(StatusCode, Json<()>), Error> {
    app.store
        .run(move |tx| inputs::create(tx, run, &input))
        .await?;
    Ok((StatusCode::CREATED, Json(())))
}

async fn filter(
    State(app): State<App>,
    Params(run): Params<FlowRunId>,
    Body(wanted): Body<InputFilter>,
) -> Result<Json<Vec<InputView>>, Error> {
    app.store
        .run(move |tx| inputs::filter(tx, run, &wanted))
        .await
        .map(Json)
}

async fn read(
    State(app): State<App>,
    Params((run, key)): Params<(FlowRunId, String)>,
) -> Result<String, Error> {
    app.store.run(move |tx| inputs::read(tx, run, &key)).await
}

async fn remove(
    State(app): State<App>,
    Params((run, key)): Params<(FlowRunId, String)>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| inputs::delete(tx, run, &key))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a paused run go on: in its process, or by a worker when it was suspended.
async fn resume(
    State(app): State<App>,
    Params(id): Params<FlowRunId>,
    Body(resumption): Body<Resumption>,
) -> Result<(StatusCode, Json<OrchestrationResult>), Error> {
    app.store
        .run(move |tx| go_on(tx, id, resumption.run_input))
        .await
        .map(made)
}

fn go_on(
    tx: &mut Tx<'_>,
    id: FlowRunId,
    input: Option<Map<String, Value>>,
) -> Result<(OrchestrationResult, bool), Error> {
    let Some(state) = runs::find_pause(tx, id)? else {
        let reason = "Cannot resume a flow run that is not paused.";
        let mut answer = refusal(OrchestrationStatus::Abort, reason);
        answer.state = None;
        return Ok((answer, false));
    };
    let details = &state.state_details.other;
    let key_of = |key: &str| details.get("run_input_keyset")?.get(key)?.as_str();
    let suspended = details.get("pause_reschedule") == Some(&Value::Bool(true));
    let input = Value::Object(input.unwrap_or_default());
    if let Some(key) = key_of("schema")
        && let Err(why) = check(inputs::find(tx, id, key)?, &input)
    {
        let mut answer = refusal(OrchestrationStatus::Reject, &why);
        answer.state = Some(state);
        return Ok((answer, false));
    }
    let next = if suspended {
        ProposedState::new(StateType::Scheduled).named("Resuming")
    } else {
        ProposedState::new(StateType::Running)
    };
    let outcome = states::propose(tx, id, &next, false)?;
    let accepted = outcome.result.status == OrchestrationStatus::Accept;
    let given = input.as_object().is_some_and(|input| !input.is_empty());
    if let Some(key) = key_of("response").filter(|_| accepted && given) {
        let input = InputCreate {
            key: key.to_owned(),
            value: input.to_string(),
            sender: None,
        };
        inputs::create(tx, id, &input)?;
    }
    Ok((outcome.result, outcome.stored))
}

/// Whether an input is what the waiting run asked for.
fn check(schema: Option<String>, input: &Value) -> Result<(), String> {
    let schema = schema.ok_or("Run input schema not found.")?;
    let schema: Value =
        serde_json::from_str(&schema).map_err(|_| "Run input schema is not valid JSON.")?;
    validation::check(input, &schema, Required::Checked, false)
        .map_err(|error| format!("Reason: {error}"))
}

fn refusal(status: OrchestrationStatus, reason: &str) -> OrchestrationResult {
    let kind = match status {
        OrchestrationStatus::Abort => "abort_details",
        _ => "reject_details",
    };
    OrchestrationResult {
        state: None,
        status,
        details: OrchestrationDetails {
            kind: Some(kind.to_owned()),
            reason: Some(reason.to_owned()),
            delay_seconds: None,
        },
    }
}
