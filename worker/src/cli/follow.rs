//! Watching one flow run to its end: its log as it comes, then its final state.

use std::{process::ExitCode, time::Duration};

use worker_api::{
    ApiError, Client,
    types::{FlowRun, FlowRunId, StateType},
};

use super::out::Out;

/// How many log lines are read at once: the server's limit (3.8.8).
const PAGE: u32 = 200;

/// How long after the final state the last lines may come: what its job wrote last is sent by its worker and not by itself.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Shows the log of a flow run until it is in a final state and its log has had time to become complete.
pub(crate) async fn follow(
    client: &Client,
    id: FlowRunId,
    pace: Duration,
    out: Out,
) -> Result<FlowRun, ApiError> {
    let (flow_run, shown) = until_over(client, id, pace, out).await?;
    tokio::time::sleep(LAST_LINES).await;
    show_log(client, id, shown, out).await?;
    Ok(flow_run)
}

/// Shows the log of a flow run until it is in a final state, and gives it then, with how many lines were shown.
pub(crate) async fn until_over(
    client: &Client,
    id: FlowRunId,
    pace: Duration,
    out: Out,
) -> Result<(FlowRun, u32), ApiError> {
    let mut shown = 0;
    loop {
        let flow_run = client.read_flow_run(id).await?;
        let over = flow_run
            .state_type
            .as_ref()
            .is_some_and(StateType::is_final);
        // Lines that were sent before the final state are there when it is seen.
        shown = show_log(client, id, shown, out).await?;
        if over {
            return Ok((flow_run, shown));
        }
        tokio::time::sleep(pace).await;
    }
}

/// Shows the log from a line on, and says how many lines were shown in all.
pub(crate) async fn show_log(
    client: &Client,
    id: FlowRunId,
    mut shown: u32,
    out: Out,
) -> Result<u32, ApiError> {
    loop {
        let page = client.read_logs(id, shown, PAGE).await?;
        for entry in &page {
            out.json(entry);
            let time = entry.timestamp.strftime("%H:%M:%S%.3f").to_string();
            for text in entry.message.lines() {
                out.log(&time, entry.level, text);
            }
        }
        let count = u32::try_from(page.len()).unwrap_or(PAGE);
        shown += count;
        if count < PAGE {
            return Ok(shown);
        }
    }
}

/// Says how a flow run ended, and gives the exit code that says the same.
pub(crate) fn conclude(flow_run: &FlowRun, out: Out) -> ExitCode {
    let name = flow_run.state_name.as_deref().unwrap_or("unknown");
    let message = flow_run
        .state
        .as_ref()
        .and_then(|state| state.message.as_deref());
    let shown = out.state(flow_run.state_type.as_ref(), name);
    out.say(&match message {
        Some(message) => format!("Flow run '{}' ended {shown}: {message}", flow_run.name),
        None => format!("Flow run '{}' ended {shown}.", flow_run.name),
    });
    out.json(flow_run);
    if flow_run.state_type == Some(StateType::Completed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
