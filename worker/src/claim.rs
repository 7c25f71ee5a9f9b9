//! Claiming: proposing PENDING and being accepted. Before it a flow run is not ours; many workers may race, and the server decides.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use worker_api::{
    ApiError,
    types::{
        DeploymentId, FlowRun, OrchestrationStatus, ProposedState, State, StateType, TransitionId,
    },
};
use worker_drivers::{LogCursor, RunKey};

use crate::{
    journal::{End, Entry, JournalGone, NotStarted, Reporter, Step},
    patience,
    services::Services,
    telemetry::chain,
};

/// What became of a claim.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Ours, with the journal's entry and the flow run as it was polled.
    Ours(Box<Entry>, Box<FlowRun>),
    /// Somebody else's, or nobody's.
    NotOurs,
}

/// What came of a proposal.
#[derive(Debug)]
enum Proposed {
    /// Ours.
    Ours,
    /// Somebody else's, or nobody's.
    NotOurs,
    /// Nobody's for ever: the server lets no worker have a flow run whose deployment was deleted, and offers it again at each poll.
    DeploymentGone(DeploymentId),
}

/// The server's reason for refusing a flow run whose deployment it cannot find (`SecureFlowConcurrencySlots`, 3.8.8).
const DEPLOYMENT_NOT_FOUND: &str = "Deployment not found";

/// How old the poll's picture of a flow run may be at its claim. Older ones are read again first, because the server lets a run that another
/// worker has completed meanwhile become PENDING once more (3.8.8).
const PICTURE_HOLDS: Duration = Duration::from_millis(500);

/// Proposes PENDING for a flow run that is due.
pub(crate) async fn claim(
    services: &Services,
    flow_run: FlowRun,
    seen: Instant,
) -> Result<Claim, JournalGone> {
    if seen.elapsed() > PICTURE_HOLDS && !is_still_due(services, &flow_run).await {
        return Ok(Claim::NotOurs);
    }
    let at_least = flow_run.run_count + 1;
    let attempt = services
        .journal
        .next_attempt(flow_run.id.0, at_least)
        .await?;
    let mut entry = Entry {
        key: RunKey {
            flow_run: flow_run.id.0,
            attempt,
        },
        name: flow_run.name.clone(),
        transition: TransitionId::random(),
        step: Step::Claiming,
        reporter: Reporter::Engine,
        claimed: Timestamp::now(),
        workspace: None,
        output: LogCursor::default(),
        shown: false,
    };
    services.journal.record(&entry).await?;
    match propose(services, &flow_run, &entry).await {
        Proposed::Ours => {}
        Proposed::NotOurs => {
            services.journal.remove(entry.key).await?;
            return Ok(Claim::NotOurs);
        }
        Proposed::DeploymentGone(deployment) => {
            let gone = NotStarted::DeploymentGone(deployment.to_string());
            entry.step = Step::Over(End::NotStarted(gone));
            services.journal.record(&entry).await?;
            return Ok(Claim::Ours(Box::new(entry), Box::new(flow_run)));
        }
    }
    entry.step = Step::Claimed;
    services.journal.note(&entry).await?;
    services
        .metrics
        .schedule_lag(flow_run.next_scheduled_start_time, entry.claimed);
    Ok(Claim::Ours(Box::new(entry), Box::new(flow_run)))
}

/// Finds out whether a claim that an earlier process was about to propose is ours. False: it was forgotten.
pub(crate) async fn settle(services: &Services, entry: &mut Entry) -> Result<bool, JournalGone> {
    if is_stored(services, entry).await {
        entry.step = Step::Claimed;
        services.journal.record(entry).await?;
        return Ok(true);
    }
    services.journal.remove(entry.key).await?;
    Ok(false)
}

/// Proposes PENDING, and finds out what came of it.
async fn propose(services: &Services, flow_run: &FlowRun, entry: &Entry) -> Proposed {
    let mut proposal = ProposedState::new(StateType::Pending);
    proposal.state_details.transition_id = Some(entry.transition);
    let answer = services.client.propose_state(flow_run.id, &proposal).await;
    services.metrics.claimed(&answer);
    match answer {
        Ok(answer) if is_ours(answer.status, answer.state.as_ref(), entry.transition) => {
            Proposed::Ours
        }
        Ok(answer) => {
            let reason = answer.details.reason.unwrap_or_default();
            tracing::info!(status = ?answer.status, reason, "not claimed");
            match flow_run.deployment_id {
                Some(id)
                    if reason.contains(DEPLOYMENT_NOT_FOUND) && is_gone(services, id).await =>
                {
                    Proposed::DeploymentGone(id)
                }
                _ => Proposed::NotOurs,
            }
        }
        // The answer may be lost, or mangled on its way, while the server has stored the claim, so nobody else could have it any more.
        Err(error) if error.is_transient() || matches!(error, ApiError::Unexpected { .. }) => {
            tracing::warn!(error = %chain(&error), "claim not answered; asking who has the flow run");
            if is_stored(services, entry).await {
                Proposed::Ours
            } else {
                Proposed::NotOurs
            }
        }
        Err(error) => {
            tracing::warn!(error = %chain(&error), "not claimed");
            Proposed::NotOurs
        }
    }
}

/// Whether a deployment does not exist any more. Not knowing is no.
async fn is_gone(services: &Services, deployment: DeploymentId) -> bool {
    let read = services.client.read_deployment(deployment).await;
    read.is_err_and(|error| error.is_not_found())
}

/// Whether the server's answer makes the flow run ours. A rejection that carries our own transition is the answer to a repeated proposal
/// whose first answer was lost.
fn is_ours(status: OrchestrationStatus, state: Option<&State>, transition: TransitionId) -> bool {
    match status {
        OrchestrationStatus::Accept => state.is_none_or(|state| state.kind == StateType::Pending),
        OrchestrationStatus::Reject => state.is_some_and(|state| carries(state, transition)),
        OrchestrationStatus::Abort | OrchestrationStatus::Wait => false,
    }
}

fn carries(state: &State, transition: TransitionId) -> bool {
    state.kind == StateType::Pending && state.state_details.transition_id == Some(transition)
}

async fn is_still_due(services: &Services, polled: &FlowRun) -> bool {
    match services.client.read_flow_run(polled.id).await {
        Ok(now) => now.state_id == polled.state_id && now.run_count == polled.run_count,
        Err(error) => {
            tracing::info!(error = %chain(&error), "not claimed: it could not be read again");
            false
        }
    }
}

/// Asks until the server answers whether it stored our claim.
async fn is_stored(services: &Services, entry: &Entry) -> bool {
    let mut patience = patience::Patience::new();
    loop {
        match services
            .client
            .read_flow_run(worker_api::types::FlowRunId(entry.key.flow_run))
            .await
        {
            Ok(flow_run) => {
                return flow_run
                    .state
                    .as_ref()
                    .is_some_and(|state| carries(state, entry.transition));
            }
            Err(error) if error.is_not_found() => {
                tracing::info!(error = %chain(&error), "the claim is void");
                return false;
            }
            // Whatever else is wrong says nothing of the claim, and to forget a stored one would leave the flow run PENDING for ever.
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot tell yet whether the claim was stored");
                patience.wait().await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
