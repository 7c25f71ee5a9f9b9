//! Asks the server which of our flow runs somebody wants to end.

use std::time::Duration;

use tokio::sync::mpsc;

use worker_api::{
    Client,
    types::{FlowRunFilter, FlowRunId, StateType},
};

use crate::{event::Event, telemetry::chain};

/// How many flow runs one question is about: the server's limit for one answer (3.8.8).
const PAGE: usize = 200;

/// Asks until its owner drops it. It asks the loop which flow runs there are, and the server about those; about none it asks nobody.
pub(crate) async fn look(
    client: Client,
    interval: Duration,
    mut ours_rx: mpsc::Receiver<Vec<FlowRunId>>,
    events_tx: mpsc::Sender<Event>,
) {
    let client = client.with_retries(0);
    loop {
        tokio::time::sleep(interval).await;
        if events_tx.send(Event::CancellationDue).await.is_err() {
            return;
        }
        let Some(ours) = ours_rx.recv().await else {
            return;
        };
        for page in ours.chunks(PAGE) {
            let cancelled = match find_cancelled(&client, page).await {
                Ok(cancelled) => cancelled,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot ask for cancelled flow runs");
                    break;
                }
            };
            if !cancelled.is_empty() && events_tx.send(Event::Cancelled(cancelled)).await.is_err() {
                return;
            }
        }
    }
}

async fn find_cancelled(
    client: &Client,
    ours: &[FlowRunId],
) -> Result<Vec<FlowRunId>, worker_api::ApiError> {
    let filter = FlowRunFilter {
        ids: Some(ours.to_vec()),
        // A flow run can be set to CANCELLED without passing through CANCELLING; its job must end all the same.
        state_types: Some(vec![StateType::Cancelling, StateType::Cancelled]),
        ..FlowRunFilter::default()
    };
    Ok(client
        .list_flow_runs(&filter)
        .await?
        .into_iter()
        .map(|run| run.id)
        .collect())
}
