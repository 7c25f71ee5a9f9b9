//! Asks the server which of our flow runs somebody wants to end.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};

use worker_api::{
    Client,
    types::{FlowRunFilter, FlowRunId, StateType},
};

use crate::{event::Event, telemetry::chain};

/// How many flow runs one question is about: the server's limit for one answer (3.8.8).
const PAGE: usize = 200;

/// Looks for flow runs that are to end.
pub(crate) struct Lookout {
    /// The API.
    pub(crate) client: Client,
    /// Time between looks at all of ours.
    pub(crate) interval: Duration,
    /// Which flow runs the loop has, asked for by [`Event::CancellationDue`].
    pub(crate) ours_rx: mpsc::Receiver<Vec<FlowRunId>>,
    /// Flow runs to look at now, because the server said something of them.
    pub(crate) soon_rx: mpsc::Receiver<FlowRunId>,
    /// The loop.
    pub(crate) events_tx: mpsc::Sender<Event>,
}

// === impl Lookout ===

impl Lookout {
    /// Looks until its owner drops it. It asks the loop which flow runs there are, and the server about those; about none it asks nobody.
    pub(crate) async fn keep(mut self) {
        self.client = self.client.with_retries(0);
        let mut regular = Instant::now() + self.interval;
        loop {
            // Cancel-safe: what is not taken stays in the queue.
            let mut named: Vec<FlowRunId> = tokio::select! {
                () = tokio::time::sleep_until(regular) => Vec::new(),
                Some(id) = self.soon_rx.recv() => vec![id],
            };
            while !named.is_empty()
                && let Ok(id) = self.soon_rx.try_recv()
            {
                named.push(id);
            }
            if self.events_tx.send(Event::CancellationDue).await.is_err() {
                return;
            }
            let Some(mut ours) = self.ours_rx.recv().await else {
                return;
            };
            if named.is_empty() {
                regular = Instant::now() + self.interval;
            } else {
                ours.retain(|id| named.contains(id));
            }
            if self.look_at(&ours).await.is_err() {
                return;
            }
        }
    }

    /// Asks the server about these. An error means that the loop is gone.
    async fn look_at(&self, ours: &[FlowRunId]) -> Result<(), mpsc::error::SendError<Event>> {
        for page in ours.chunks(PAGE) {
            match find_cancelled(&self.client, page).await {
                Ok(cancelled) if cancelled.is_empty() => {}
                Ok(cancelled) => self.events_tx.send(Event::Cancelled(cancelled)).await?,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot ask for cancelled flow runs");
                    break;
                }
            }
        }
        Ok(())
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
