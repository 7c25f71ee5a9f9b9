//! Claiming: proposing PENDING and being accepted. Before it a flow run is not ours; many workers may race, and the server decides.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use worker_api::{
    ApiError,
    types::{
        DeploymentId, FlowRun, FlowRunId, OrchestrationStatus, ProposedState, State, StateType,
        TransitionId,
    },
};
use worker_drivers::{LogCursor, RunKey};

use crate::{
    event::Seen,
    journal::{End, Entry, JournalGone, NotStarted, Reporter, Step},
    patience::Patience,
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
    /// Ours, with the lease on its deployment's slot, if there is one.
    Ours(Option<Uuid>),
    /// Ours, and to be ended: somebody cancelled it in the same moment.
    Cancelling,
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

/// How old it may be when the claim is answered, for nobody to have come between. Nobody claims, starts, ends and reports a flow run in less.
const PICTURE_IS_SURE: Duration = Duration::from_millis(100);

/// How long before its time a flow run may be claimed by a proposal that is repeated. The poll looks less far ahead, by default, and what
/// waits longer was put off meanwhile.
const NEARLY_DUE: SignedDuration = SignedDuration::from_mins(1);

/// Proposes PENDING for a flow run that is due.
pub(crate) async fn claim(
    services: &Services,
    flow_run: FlowRun,
    seen: Seen,
) -> Result<Claim, JournalGone> {
    if seen.asked.elapsed() > PICTURE_HOLDS && !is_still_due(services, &flow_run).await {
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
        handle: None,
        lease: None,
        told: None,
        trace: services.board.traces.begin(&flow_run),
        workspace: None,
        output: LogCursor::default(),
        shown: false,
    };
    services.journal.record(&entry).await?;
    match propose(services, &flow_run, &entry).await {
        Proposed::Ours(_)
            if seen.asked.elapsed() > PICTURE_IS_SURE && !is_due(services, &entry).await =>
        {
            services.journal.remove(entry.key).await?;
            return Ok(Claim::NotOurs);
        }
        Proposed::Ours(lease) => {
            entry.lease = lease;
            entry.step = Step::Claimed;
            let worker = &services.identity.worker;
            let said = format!("Worker '{worker}' submitting flow run '{}'", flow_run.id);
            services.run_log.mention(flow_run.id, said).await;
        }
        Proposed::NotOurs => {
            services.journal.remove(entry.key).await?;
            return Ok(Claim::NotOurs);
        }
        Proposed::Cancelling => entry.step = Step::Over(End::NotStarted(NotStarted::Cancelled)),
        Proposed::DeploymentGone(deployment) => {
            let gone = NotStarted::DeploymentGone(deployment.to_string());
            entry.step = Step::Over(End::NotStarted(gone));
        }
    }
    services.journal.note(&entry).await?;
    services
        .metrics
        .schedule_lag(flow_run.next_scheduled_start_time, entry.claimed);
    Ok(Claim::Ours(Box::new(entry), Box::new(flow_run)))
}

/// Whose a flow run is that this worker was about to claim, or had claimed and not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Ours: its state is the one our claim made; with the lease on a slot of its deployment, if it has one.
    Ours(Option<Uuid>),
    /// Ours, and its job runs: it had been asked for before.
    Running,
    /// Ours to end: somebody cancelled it meanwhile.
    Cancelling,
    /// Not ours, or not any more.
    NotOurs,
}

/// Asks until the server answers whose a flow run is.
pub(crate) async fn settle(services: &Services, entry: &Entry) -> Settled {
    let mut patience = Patience::new();
    loop {
        match try_settle(services, entry).await {
            Ok(settled) => return settled,
            Err(error) if error.is_not_found() => {
                tracing::info!(error = %chain(&error), "the claim is void");
                return Settled::NotOurs;
            }
            // Whatever else is wrong says nothing of the claim, and to forget a stored one would leave the flow run PENDING for ever.
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot tell yet whether the claim was stored");
                patience.wait().await;
            }
        }
    }
}

/// Proposes PENDING, and finds out what came of it.
async fn propose(services: &Services, flow_run: &FlowRun, entry: &Entry) -> Proposed {
    let answer = services
        .client
        .propose_state(flow_run.id, &proposal(entry))
        .await;
    services.metrics.claimed(&answer);
    match answer {
        Ok(answer) if is_ours(answer.status, answer.state.as_ref(), entry.transition) => {
            Proposed::Ours(lease_of(answer.state.as_ref()))
        }
        Ok(answer) => {
            let reason = answer.details.reason;
            tracing::info!(status = ?answer.status, reason, "not claimed");
            let names_deployment = reason.is_some_and(|it| it.contains(DEPLOYMENT_NOT_FOUND));
            match flow_run.deployment_id {
                Some(id) if names_deployment && is_gone(services, id).await => {
                    Proposed::DeploymentGone(id)
                }
                _ => Proposed::NotOurs,
            }
        }
        // The answer may be lost, or mangled on its way, while the server has stored the claim, so nobody else could have it any more.
        Err(error) if error.may_pass() => {
            tracing::warn!(error = %chain(&error), "claim not answered; asking who has the flow run");
            match settle(services, entry).await {
                Settled::Ours(lease) => Proposed::Ours(lease),
                Settled::Cancelling => Proposed::Cancelling,
                Settled::Running | Settled::NotOurs => Proposed::NotOurs,
            }
        }
        Err(error) => {
            tracing::warn!(error = %chain(&error), "not claimed");
            Proposed::NotOurs
        }
    }
}

fn proposal(entry: &Entry) -> ProposedState {
    let mut proposal = ProposedState::new(StateType::Pending);
    proposal.state_details.transition_id = Some(entry.transition);
    proposal
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

/// The transition by which a claimed flow run becomes Submitting. It is made from the claim's, so that it is known after a restart.
fn submitting(claim: TransitionId) -> TransitionId {
    TransitionId(Uuid::from_u128(claim.0.as_u128() ^ 1))
}

/// The proposal that says that infrastructure is about to be created.
pub(crate) fn submitting_proposal(entry: &Entry) -> ProposedState {
    let mut proposal = ProposedState::new(StateType::Pending).named("Submitting");
    proposal.state_details.transition_id = Some(submitting(entry.transition));
    proposal
}

/// The transition by which it waits for its infrastructure to begin, made in the same way.
fn waiting(claim: TransitionId) -> TransitionId {
    TransitionId(Uuid::from_u128(claim.0.as_u128() ^ 2))
}

/// The proposal that says that there is infrastructure which has not begun, as the reference's observer words it (prefect-kubernetes 0.8.0).
pub(crate) fn waiting_proposal(entry: &Entry) -> ProposedState {
    let proposal = ProposedState::new(StateType::Pending).named("InfrastructurePending");
    let mut proposal = proposal.because("Kubernetes pod is pending.");
    proposal.state_details.transition_id = Some(waiting(entry.transition));
    proposal
}

/// The lease on a slot of the deployment, which the server gives with the claim.
fn lease_of(state: Option<&State>) -> Option<Uuid> {
    state.and_then(|state| state.state_details.deployment_concurrency_lease_id)
}

/// Whether the last claim of a flow run is the one of this entry: no newer attempt has it.
pub(crate) async fn is_last(services: &Services, entry: &Entry) -> Result<bool, ApiError> {
    let id = FlowRunId(entry.key.flow_run);
    let states = services.client.list_flow_run_states(id).await?;
    Ok(is_last_of(&states, entry.transition))
}

/// Whether a newer attempt has the flow run of this entry. Where nobody knows its claim any more, it is so if `named`: if the flow run names
/// somebody else.
pub(crate) async fn is_superseded(
    services: &Services,
    entry: &Entry,
    named: bool,
) -> Result<bool, ApiError> {
    let id = FlowRunId(entry.key.flow_run);
    let states = services.client.list_flow_run_states(id).await?;
    let is_known = states.iter().any(|state| carries(state, entry.transition));
    Ok(if is_known {
        !is_last_of(&states, entry.transition)
    } else {
        named
    })
}

/// Whether a flow run waits as the claim of this entry left it, or as what followed from it did.
pub(crate) async fn is_waiting(services: &Services, entry: &Entry) -> Result<bool, ApiError> {
    let id = FlowRunId(entry.key.flow_run);
    let flow_run = services.client.read_flow_run(id).await?;
    Ok(is_claimed_by(&flow_run, entry))
}

/// The last claim of a flow run, and what surrounds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Last {
    /// Its transition, or that of what followed from it.
    pub(crate) transition: Option<TransitionId>,
    /// How often the flow run has begun to run since, as its `run_count` has it (3.8.8): a retry inside of a job counts, what resumes does not.
    pub(crate) runs_since: u32,
    /// Whether there was another claim since it had run last.
    pub(crate) claimed_before: bool,
}

/// The last claim of a flow run.
pub(crate) async fn last(services: &Services, id: FlowRunId) -> Result<Last, ApiError> {
    let states = services.client.list_flow_run_states(id).await?;
    Ok(last_in(&states))
}

/// What a history says of its last claim. Pure.
fn last_in(states: &[State]) -> Last {
    let mut last = Last::default();
    let (mut claims, mut resuming) = (0_u32, false);
    let mut before = None;
    for state in states {
        match state.kind {
            // What comes after another PENDING follows from the same claim, and nobody claims what runs.
            StateType::Pending
                if !matches!(before, Some(&(StateType::Pending | StateType::Running))) =>
            {
                claims += 1;
                last = Last {
                    transition: state.state_details.transition_id,
                    runs_since: 0,
                    claimed_before: claims > 1,
                };
            }
            StateType::Running => {
                claims = 0;
                last.runs_since += u32::from(!resuming);
                resuming = false;
            }
            StateType::Paused => resuming = true,
            _ => {}
        }
        before = Some(&state.kind);
    }
    last
}

fn is_last_of(states: &[State], claim: TransitionId) -> bool {
    last_of(states).is_some_and(|state| carries(state, claim))
}

fn last_of(states: &[State]) -> Option<&State> {
    let mut newest_first = states.iter().rev();
    newest_first.find(|state| state.kind == StateType::Pending)
}

/// Whether a state is the one that a claim made.
fn is_claim(state: &State, transition: TransitionId) -> bool {
    state.kind == StateType::Pending && state.state_details.transition_id == Some(transition)
}

/// Whether a state is one that a claim or what followed from it made.
pub(crate) fn carries(state: &State, transition: TransitionId) -> bool {
    let made = [transition, submitting(transition), waiting(transition)];
    made.into_iter().any(|one| is_claim(state, one))
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

async fn try_settle(services: &Services, entry: &Entry) -> Result<Settled, ApiError> {
    let id = FlowRunId(entry.key.flow_run);
    let flow_run = services.client.read_flow_run(id).await?;
    let ours = match &flow_run.state_type {
        // The proposal may still be on its way. Once a second one is answered, the first comes too late, whatever the answer is.
        Some(StateType::Scheduled) if entry.step == Step::Claiming && is_nearly_due(&flow_run) => {
            let answer = services.client.propose_state(id, &proposal(entry)).await?;
            is_ours(answer.status, answer.state.as_ref(), entry.transition)
                .then(|| lease_of(answer.state.as_ref()))
        }
        // Only the worker that had claimed it can end it.
        Some(StateType::Cancelling) => {
            return Ok(if is_last(services, entry).await? {
                Settled::Cancelling
            } else {
                Settled::NotOurs
            });
        }
        // Nothing but the job that was asked for can have said so, if nobody has claimed the flow run since.
        Some(StateType::Running)
            if entry.step == Step::Submitting && is_last(services, entry).await? =>
        {
            return Ok(Settled::Running);
        }
        _ => {
            let ours = is_claimed_by(&flow_run, entry) && !put_end_back(services, entry).await?;
            ours.then(|| lease_of(flow_run.state.as_ref()))
        }
    };
    Ok(ours.map_or(Settled::NotOurs, Settled::Ours))
}

/// Whether a claim that the server took was one of a flow run that was due. One that was over gets its end back.
async fn is_due(services: &Services, entry: &Entry) -> bool {
    let mut patience = Patience::new();
    loop {
        match put_end_back(services, entry).await {
            Ok(put_back) => return !put_back,
            Err(error) if error.is_not_found() => return false,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot tell yet whether somebody else had run it meanwhile");
                patience.wait().await;
            }
        }
    }
}

/// Gives a flow run back the end that it had before our claim, if it had one.
async fn put_end_back(services: &Services, entry: &Entry) -> Result<bool, ApiError> {
    let id = FlowRunId(entry.key.flow_run);
    let states = services.client.list_flow_run_states(id).await?;
    let Some(end) = end_before(&states, entry.transition) else {
        return Ok(false);
    };
    tracing::info!(state = %end.kind, "not claimed: another worker had run it meanwhile");
    let mut proposal = ProposedState::new(end.kind.clone());
    proposal.name.clone_from(&end.name);
    proposal.message.clone_from(&end.message);
    proposal.data.clone_from(&end.data);
    services.client.force_state(id, &proposal).await?;
    Ok(true)
}

/// The end that a claim has come over: the server lets PENDING follow it (3.8.8). Pure.
fn end_before(states: &[State], claim: TransitionId) -> Option<&State> {
    let claimed = states.iter().rposition(|state| is_claim(state, claim))?;
    states[..claimed]
        .last()
        .filter(|before| before.kind.is_final())
}

fn is_nearly_due(flow_run: &FlowRun) -> bool {
    flow_run
        .next_scheduled_start_time
        .is_none_or(|due| due.duration_since(Timestamp::now()) <= NEARLY_DUE)
}

/// Whether a flow run is PENDING by the claim of this entry.
fn is_claimed_by(flow_run: &FlowRun, entry: &Entry) -> bool {
    let state = flow_run.state.as_ref();
    state.is_some_and(|state| carries(state, entry.transition))
}

#[cfg(test)]
mod tests;
