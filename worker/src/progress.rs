//! Infrastructure that exists and has not begun, as Kubernetes has it: what the run page says until it does.

use std::collections::HashSet;

use tokio::sync::mpsc;

use worker_api::types::FlowRunId;
use worker_config::DriverKind;
use worker_drivers::{Outcome, Phase};

use crate::{
    claim,
    event::Event,
    journal::{Entry, Reporter},
    services::Services,
    submit,
    telemetry::chain,
};

/// Phases that may wait to be told. Those that come too fast are old when they could be.
pub(crate) const PHASES: usize = 8;

/// How many reasons for waiting the log of a flow run gets. A scheduler counts nodes in its own, and counts change.
const REASONS: usize = 20;

/// Whether infrastructure of this kind begins some time after it was made.
pub(crate) fn begins_later(kind: DriverKind) -> bool {
    kind == DriverKind::Kubernetes
}

/// Whether a job that ended like this had begun.
pub(crate) fn had_begun(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Exited { .. } | Outcome::OutOfMemory { .. } => true,
        // Who was stopped by us may have been so before.
        Outcome::Signalled { by_us, .. } => !by_us,
        Outcome::NeverStarted { .. } | Outcome::Lost { .. } => false,
    }
}

/// Tells the API of the phases of one job until there are no more.
pub(crate) async fn tell(
    services: &Services,
    entry: &Entry,
    events_tx: mpsc::Sender<Event>,
    mut phases_rx: mpsc::Receiver<Phase>,
) {
    let flow_run = FlowRunId(entry.key.flow_run);
    let mut said = HashSet::new();
    let (mut waits, mut runs) = (false, false);
    while let Some(phase) = phases_rx.recv().await {
        match phase {
            Phase::Pending(reason) => {
                if let Some(reason) = reason
                    && said.len() < REASONS
                    && said.insert(reason.clone())
                {
                    let message = format!("Not started yet: {reason}.");
                    services.run_log.mention(flow_run, message).await;
                }
                if !std::mem::replace(&mut waits, true) && !runs {
                    declare_waiting(services, entry).await;
                }
            }
            Phase::Running if !runs => {
                runs = true;
                if entry.reporter != Reporter::Engine {
                    submit::announce_running(services, entry, &events_tx).await;
                }
            }
            Phase::Running | Phase::Exited(_) => {}
        }
    }
}

/// Tells that the infrastructure has not begun. Nothing depends on it.
async fn declare_waiting(services: &Services, entry: &Entry) {
    if !submit::is_waiting(services, entry).await {
        return;
    }
    let flow_run = FlowRunId(entry.key.flow_run);
    let client = services.client.with_retries(1);
    let proposal = claim::waiting_proposal(entry);
    if let Err(error) = client.propose_state(flow_run, &proposal).await {
        tracing::debug!(error = %chain(&error), "cannot say that its infrastructure has not begun");
    }
}
