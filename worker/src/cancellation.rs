//! Asks the server which of our flow runs somebody wants to end.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use worker_api::{
    Client,
    types::{FlowRun, FlowRunFilter, FlowRunId, StateType},
};

use worker_config::settings::Settings;

use crate::{event::Event, telemetry::chain};

/// How many flow runs one question is about: the server's limit for one answer (3.8.8).
const PAGE: usize = 200;

/// Looks for flow runs that are to end.
pub(crate) struct Lookout {
    /// The API.
    pub(crate) client: Client,
    /// How this worker is set up: the time between looks at all of ours may change.
    pub(crate) settings_rx: watch::Receiver<Arc<Settings>>,
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
        let mut regular = Instant::now() + self.interval();
        let mut cancelled = HashSet::new();
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
            let looked = if named.is_empty() {
                regular = Instant::now() + self.interval();
                self.look_at_all(&ours, &mut cancelled).await
            } else {
                ours.retain(|id| named.contains(id));
                self.look_at(&ours).await.map(drop)
            };
            if looked.is_err() {
                return;
            }
        }
    }

    fn interval(&self) -> Duration {
        self.settings_rx.borrow().worker.cancellation_interval
    }

    /// Asks the server about all of ours. An error means that the loop is gone.
    ///
    /// A flow run that is CANCELLED was set so by somebody, and its job must end; or by its own engine, which is about to end by itself and
    /// must not be disturbed. Who is still here at the second look is told.
    async fn look_at_all(
        &self,
        ours: &[FlowRunId],
        before: &mut HashSet<FlowRunId>,
    ) -> Result<(), LoopGone> {
        let now = self.look_at(ours).await?;
        let still = now.intersection(before).copied().collect();
        *before = now;
        self.tell(still).await
    }

    /// Asks the server about these, tells the loop which are CANCELLING, and gives those that are CANCELLED.
    async fn look_at(&self, ours: &[FlowRunId]) -> Result<HashSet<FlowRunId>, LoopGone> {
        let mut all_cancelled = HashSet::new();
        for page in ours.chunks(PAGE) {
            match find_ended(&self.client, page).await {
                Ok(Ended {
                    cancelling,
                    cancelled,
                }) => {
                    all_cancelled.extend(cancelled);
                    self.tell(cancelling).await?;
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot ask for cancelled flow runs");
                    break;
                }
            }
        }
        Ok(all_cancelled)
    }

    async fn tell(&self, flow_runs: Vec<FlowRunId>) -> Result<(), LoopGone> {
        if flow_runs.is_empty() {
            return Ok(());
        }
        self.events_tx.send(Event::Cancelled(flow_runs)).await
    }
}

/// The loop is gone, and with it the reason to look.
type LoopGone = mpsc::error::SendError<Event>;

/// Flow runs that somebody has ended, or is ending.
struct Ended {
    cancelling: Vec<FlowRunId>,
    cancelled: Vec<FlowRunId>,
}

async fn find_ended(client: &Client, ours: &[FlowRunId]) -> Result<Ended, worker_api::ApiError> {
    let filter = FlowRunFilter {
        ids: Some(ours.to_vec()),
        // A flow run can be set to CANCELLED without passing through CANCELLING; its job must end all the same.
        state_types: Some(vec![StateType::Cancelling, StateType::Cancelled]),
        ..FlowRunFilter::default()
    };
    let found = client.list_flow_runs(&filter).await?.into_iter();
    let (cancelling, cancelled): (Vec<_>, Vec<_>) =
        found.partition(|run| run.state_type == Some(StateType::Cancelling));
    let ids = |runs: Vec<FlowRun>| runs.into_iter().map(|run| run.id).collect();
    Ok(Ended {
        cancelling: ids(cancelling),
        cancelled: ids(cancelled),
    })
}

#[cfg(test)]
mod tests;
