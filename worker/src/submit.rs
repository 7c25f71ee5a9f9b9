//! From a plan to infrastructure that exists, and back: declare, submit, announce, destroy.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use tokio::{
    sync::mpsc,
    time::{Duration, Instant},
};

use worker_api::types::{
    FlowRunId, OrchestrationStatus, ProposedState, State, StateType, TransitionId,
};
use worker_drivers::{DriverError, Handle, Owned, Phase, Plan, Submitted};

use crate::{
    claim::{self, Settled},
    event::{Event, Observation, Order},
    journal::{Entry, NotStarted, Reporter, Step},
    lease,
    line::{Line, Told},
    patience::Patience,
    progress, resolve,
    secrets::Secrets,
    services::Services,
    task,
    telemetry::chain,
};

/// How long after its claim a flow run is believed to be as the claim left it. The server lets RUNNING follow CANCELLED (3.8.8), so after a
/// long clone one that somebody has set to CANCELLED meanwhile must not be told to run.
const CLAIM_HOLDS: SignedDuration = SignedDuration::from_secs(1);

/// How long a driver may say "not now" before the flow run is reported as not started. Room on an engine that is full comes within
/// minutes, or a person has to make it.
const NOT_NOW_LIMIT: Duration = Duration::from_mins(10);

/// Asks the driver until the infrastructure surely exists, or surely will not.
pub(crate) async fn submit(
    services: &Services,
    line: &mut Line,
    plan: &Plan,
    secrets: &Secrets,
) -> Result<Handle, NotStarted> {
    let begun = Instant::now();
    let mut patience = Patience::new();
    // As many as there are reasons, within the time that this may take.
    let mut said = HashSet::new();
    let mut warned = false;
    loop {
        line.go_on()?;
        let error = match ask(services, line, plan, &mut said).await? {
            Ok(submitted) => {
                services.metrics.started(begun.elapsed());
                return Ok(submitted.into_handle());
            }
            Err(error) => error,
        };
        if !error.is_transient() {
            return Err(NotStarted::Failed(chain(&error)));
        }
        let why = secrets.covered(chain(&error));
        if begun.elapsed() > NOT_NOW_LIMIT {
            let reason = given_up(&why, &services.identity.pool);
            tracing::warn!(reason, "not started, and not tried again");
            return Err(NotStarted::Failed(reason));
        }
        // Once is enough to look at it; the page and the flow run's log have it as long as it lasts.
        if warned {
            tracing::debug!(error = why, "not started yet; trying again");
        } else {
            warned = true;
            tracing::warn!(error = why, "not started yet; trying again");
        }
        // The page has it until the next try says something else.
        let waits = Phase::Pending(Some(format!("trying again: {why}")));
        services.board.observed(plan.key(), &waits);
        let message = format!("Not started yet, trying again: {why}.");
        mention_once(services, plan, &mut said, message).await;
        let wait = async {
            if let DriverError::Quota {
                retry_after: Some(delay),
                ..
            } = &error
            {
                tokio::time::sleep(*delay).await;
            } else {
                patience.wait().await;
            }
        };
        tokio::select! {
            () = wait => {}
            // The order is read again at the top of the loop.
            _ = line.ordered_to_end() => {}
        }
    }
}

/// Asks the driver once, and passes on to the flow run's log what the job waits for before there is infrastructure: an image, as a rule.
///
/// Only such a wait ends with an order. A submit that was dropped anywhere else would have to be searched for.
async fn ask(
    services: &Services,
    line: &mut Line,
    plan: &Plan,
    said: &mut HashSet<String>,
) -> Result<Result<Submitted, DriverError>, NotStarted> {
    let mut submitting = services.driver.submit(plan);
    let mut waits = false;
    loop {
        if waits {
            line.go_on()?;
        }
        let order = line.order();
        let told = tokio::select! {
            biased;
            submitted = &mut submitting => return Ok(submitted),
            told = line.told(order) => told,
        };
        if let Told::Observed(Observation::Phase(key, Phase::Pending(Some(reason)))) = told
            && key == plan.key()
        {
            waits = true;
            let message = format!("Not started yet: {reason}.");
            mention_once(services, plan, said, message).await;
        }
    }
}

/// Why a job was not begun in all that time, and what to do. Pure.
fn given_up(why: &str, pool: &str) -> String {
    format!(
        "{why}; tried for {} minutes. `worker doctor --pool {pool}` looks at the engine, with --image IMAGE at the registry as well",
        NOT_NOW_LIMIT.as_secs() / 60
    )
}

/// Says something in the flow run's log that a person wants to read once, however often it comes to pass.
async fn mention_once(
    services: &Services,
    plan: &Plan,
    said: &mut HashSet<String>,
    message: String,
) {
    if said.insert(message.clone()) {
        let flow_run = FlowRunId(plan.key().flow_run);
        services.run_log.mention(flow_run, message).await;
    }
}

/// Sees to it that the driver can find the infrastructure that an earlier process may have made. What leads there may be a credential, which is in no
/// journal: it is resolved anew. Until it is, nothing can be known of the job, nor done about it, whatever is ordered.
pub(crate) async fn find_way(services: &Services, line: &mut Line, entry: &Entry) {
    let may_be_there = match entry.step {
        Step::Claiming | Step::Claimed => false,
        Step::Submitting | Step::Submitted => true,
        Step::Over(_) => entry.handle.is_some(),
    };
    if !may_be_there || services.driver.knows_way_to(entry.handle.as_ref()) {
        return;
    }
    let (_reins, mut errand) = line.errand();
    let finding = async {
        let mut patience = Patience::new();
        let plan = loop {
            match resolve::whereabouts(services, &mut errand, entry).await {
                Ok(plan) => break plan,
                // The API has been away for long.
                Err(NotStarted::PutBack(why)) => {
                    tracing::warn!(why, "cannot find out yet where the job is");
                    patience.wait().await;
                }
                Err(why) => {
                    tracing::warn!(?why, "cannot find out where the job is");
                    return;
                }
            }
        };
        while let Err(error) = services.driver.learn_way(&plan).await {
            tracing::warn!(error = %chain(&error), "cannot find the way to the job yet");
            if !error.is_transient() {
                return;
            }
            patience.wait().await;
        }
    };
    // Who only waits keeps others from starting no more than a job that runs.
    line.started(entry.key).await;
    tokio::select! {
        () = finding => {}
        never = lease::keep(services, entry.lease) => match never {},
    }
}

/// Looks for infrastructure that an earlier process had asked for and may have got. Until the engine answers nothing is begun anew: the
/// workspace may be in use.
pub(crate) async fn find(services: &Services, line: &mut Line, entry: &Entry) -> Option<Owned> {
    let mut patience = Patience::new();
    loop {
        match services.driver.list_owned(&services.identity.owner).await {
            Ok(owned) => {
                let mut owned = owned.into_iter();
                return owned.find(|one| one.handle.key == entry.key);
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot see yet whether the job was started");
                // An order changes nothing about that: what may run has to be found before it can be ended.
                patience.wait().await;
            }
        }
        if line.order() == Order::Stop {
            // The journal keeps the question for the process that follows.
            std::future::pending::<()>().await;
        }
    }
}

/// Where a flow run stands that is about to get its infrastructure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    GoOn,
    Cancelled,
    /// Somebody else has changed its state; who has it must be asked.
    Doubtful,
}

/// Tells the API that infrastructure is about to be created, and hears whether it still should be.
pub(crate) async fn declare(services: &Services, entry: &Entry) -> Result<(), NotStarted> {
    let flow_run = FlowRunId(entry.key.flow_run);
    // What is declared here is good to know; only what the answer says about the flow run matters, and an outage says nothing.
    let client = services.client.with_retries(1);
    let answer = client
        .propose_state(flow_run, &claim::submitting_proposal(entry))
        .await;
    let standing = match answer {
        Ok(answer) => standing(answer.status, answer.state.as_ref(), entry.transition),
        Err(error) if error.is_not_found() => return Err(NotStarted::NotOurs),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "cannot say that it is being submitted");
            Standing::GoOn
        }
    };
    match standing {
        Standing::GoOn => Ok(()),
        Standing::Cancelled => Err(NotStarted::Cancelled),
        Standing::Doubtful => ask_whose(services, entry).await,
    }
}

/// Asks whether a flow run that is about to get its infrastructure is still ours.
pub(crate) async fn ask_whose(services: &Services, entry: &Entry) -> Result<(), NotStarted> {
    match claim::settle(services, entry).await {
        // What runs already is found by its key, and nothing is made anew.
        Settled::Ours(_) | Settled::Running => Ok(()),
        Settled::Cancelling => Err(NotStarted::Cancelled),
        Settled::NotOurs => Err(NotStarted::NotOurs),
    }
}

/// What an answer to the declaration says. Pure.
fn standing(status: OrchestrationStatus, state: Option<&State>, claim: TransitionId) -> Standing {
    let kind = state.map(|state| &state.kind);
    if matches!(kind, Some(StateType::Cancelling | StateType::Cancelled)) {
        return Standing::Cancelled;
    }
    // A repeated declaration is rejected with the state that the first one made.
    let ours = state.is_some_and(|state| claim::carries(state, claim));
    if status == OrchestrationStatus::Accept || ours {
        Standing::GoOn
    } else {
        Standing::Doubtful
    }
}

/// How long what there is to know of infrastructure may keep the report of its end waiting.
pub(crate) const ANNOUNCED_LATE: Duration = Duration::from_secs(5);

/// How long it may take after that report, for as long as which the flow run keeps its slot.
pub(crate) const LABELLED_LATE: Duration = Duration::from_secs(30);

/// Tells the API what there is to know of new infrastructure. Nothing waits for it but the end, and what fails is only logged.
///
/// For infrastructure that an earlier process started, only what that process may not have come to is told.
pub(crate) async fn announce(
    services: &Services,
    entry: &Entry,
    events_tx: mpsc::Sender<Event>,
    resumed: bool,
) {
    let flow_run = FlowRunId(entry.key.flow_run);
    if resumed && !is_last_claim(services, entry).await {
        return;
    }
    let Some(handle) = &entry.handle else { return };
    let id = &handle.infrastructure_id;
    if !resumed || is_waiting(services, entry).await {
        let said = format!(
            "Flow run '{}' submitted to infrastructure: {} {id}, attempt {}.",
            entry.name, handle.kind, entry.key.attempt
        );
        services.run_log.mention(flow_run, said).await;
        if entry.reporter != Reporter::Engine && !progress::begins_later(handle.kind) {
            announce_running(services, entry, &events_tx).await;
        }
    }
    label(services, entry).await;
}

/// Ties the flow run to its infrastructure, if there is any, its worker and its pool.
pub(crate) async fn label(services: &Services, entry: &Entry) {
    let flow_run = FlowRunId(entry.key.flow_run);
    if let Some(handle) = &entry.handle
        && let id = &handle.infrastructure_id
        && let Err(error) = services.client.set_infrastructure_id(flow_run, id).await
    {
        tracing::warn!(error = %chain(&error), "cannot store the infrastructure id {id}");
    }
    // One after the other: a server on SQLite answers 503 to two writes at once.
    let labels = run_labels(services);
    if let Err(error) = services.client.update_labels(flow_run, &labels).await {
        tracing::debug!(error = %chain(&error), "cannot label the flow run");
    }
}

/// Tells the API that a plain command runs.
pub(crate) async fn announce_running(
    services: &Services,
    entry: &Entry,
    events_tx: &mpsc::Sender<Event>,
) {
    let flow_run = FlowRunId(entry.key.flow_run);
    let since_claim = Timestamp::now().duration_since(entry.claimed);
    let is_fresh = since_claim <= CLAIM_HOLDS && !progress::begins_later(services.driver.kind());
    // The next look for cancelled flow runs finds it.
    if !is_fresh && !is_waiting(services, entry).await {
        return;
    }
    match services
        .client
        .propose_state(flow_run, &ProposedState::new(StateType::Running))
        .await
    {
        Ok(answer) if answer.status == OrchestrationStatus::Accept => {}
        Ok(answer) => {
            tracing::info!(status = ?answer.status, reason = answer.details.reason, "the server does not want it to run");
            let state = answer.state.map(|state| state.kind);
            if matches!(state, Some(StateType::Cancelling | StateType::Cancelled)) {
                // When the loop is gone there is nobody to end it for.
                drop(events_tx.send(Event::Cancelled(vec![flow_run])).await);
            }
        }
        Err(error) => tracing::warn!(error = %chain(&error), "cannot say that it runs"),
    }
}

/// Whether no newer attempt has the flow run, to which the words of this one would be wrong. Not knowing is no.
async fn is_last_claim(services: &Services, entry: &Entry) -> bool {
    match claim::is_last(services, entry).await {
        Ok(is_last) => is_last,
        Err(error) => {
            tracing::warn!(error = %chain(&error), "cannot see whose the flow run is");
            false
        }
    }
}

/// Whether the flow run has not begun, as far as the API knows, and no newer attempt has it. Not knowing is no.
pub(crate) async fn is_waiting(services: &Services, entry: &Entry) -> bool {
    match claim::is_waiting(services, entry).await {
        Ok(waits) => waits,
        Err(error) => {
            tracing::warn!(error = %chain(&error), "cannot see what the API knows of the job");
            false
        }
    }
}

/// The labels that tie a flow run to its worker and pool, as the reference writes them (`BaseWorker`, 3.8.8).
fn run_labels(services: &Services) -> Map<String, Value> {
    let pool_id = services.pool_id.borrow().map(|id| id.to_string());
    let pool_id = pool_id.unwrap_or_default();
    [
        ("prefect.worker.name", services.identity.worker.as_str()),
        ("prefect.worker.type", services.driver.kind().as_str()),
        ("prefect.work-pool.name", services.identity.pool.as_str()),
        ("prefect.work-pool.id", pool_id.as_str()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), Value::from(value)))
    .collect()
}

/// Makes sure that nothing is left of an attempt that did not start: what is reported dead must not come alive later. False: the worker
/// leaves before the engine could be asked, and the journal keeps the attempt as it is.
pub(crate) async fn undo(services: &Services, line: &mut Line, entry: &Entry) -> bool {
    let mut patience = Patience::new();
    while let Err(error) = services.driver.destroy(entry.key).await {
        tracing::warn!(error = %chain(&error), "cannot remove what may have been begun; trying again");
        if line.order() == Order::Stop {
            return false;
        }
        patience.wait().await;
    }
    true
}

/// How long it is tried to remove infrastructure before that is left to the janitor. An engine that was away for a moment is back by then.
const REMOVED_LATE: Duration = Duration::from_mins(1);

/// Removes infrastructure and workspace of an attempt that is reported. What fails is found again by the janitor.
pub(crate) async fn destroy(services: &Services, line: &mut Line, entry: &Entry) {
    let begun = Instant::now();
    let mut patience = Patience::new();
    while let Err(error) = services.driver.destroy(entry.key).await {
        tracing::warn!(error = %chain(&error), "cannot remove the infrastructure now");
        if begun.elapsed() > REMOVED_LATE || line.order() == Order::Stop {
            break;
        }
        patience.wait().await;
    }
    if let Some(workspace) = entry.workspace.clone() {
        task::blocking(move || {
            if let Err(error) = std::fs::remove_dir_all(&workspace)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, workspace = %workspace.display(), "cannot remove the workspace");
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_up_says_why_for_how_long_it_was_tried_and_where_to_look() {
        assert_eq!(
            given_up("image registry is unavailable: no route", "boxes"),
            "image registry is unavailable: no route; tried for 10 minutes. `worker doctor --pool boxes` looks at the engine, with --image IMAGE at the registry as well"
        );
    }
}
