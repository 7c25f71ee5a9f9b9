//! From a plan to infrastructure that exists, and back: submit, announce, destroy.

use serde_json::{Map, Value};
use tokio::time::{Duration, Instant};

use worker_api::types::{FlowRunId, ProposedState, StateType};
use worker_drivers::{DriverError, Handle, Plan};

use crate::{
    event::Order,
    journal::{Entry, NotStarted, Reporter},
    line::Line,
    patience::Patience,
    services::Services,
    task,
    telemetry::chain,
};

/// How long a driver may say "not now" before the flow run is reported as not started. Room on an engine that is full comes within
/// minutes, or a person has to make it.
const NOT_NOW_LIMIT: Duration = Duration::from_mins(10);

/// Asks the driver until the infrastructure surely exists, or surely will not.
pub(crate) async fn submit(
    services: &Services,
    line: &mut Line,
    plan: &Plan,
) -> Result<Handle, NotStarted> {
    let begun = Instant::now();
    let mut patience = Patience::new();
    loop {
        line.go_on()?;
        // Not raced against orders: a submit that was dropped half-way would have to be searched for.
        let error = match services.driver.submit(plan).await {
            Ok(submitted) => {
                services.metrics.started(begun.elapsed());
                return Ok(submitted.into_handle());
            }
            Err(error) => error,
        };
        if !error.is_transient() || begun.elapsed() > NOT_NOW_LIMIT {
            return Err(NotStarted::Failed(chain(&error)));
        }
        tracing::warn!(error = %chain(&error), "not started yet; trying again");
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

/// Looks for infrastructure that an earlier process had asked for and may have got. Until the engine answers nothing is begun anew: the
/// workspace may be in use.
pub(crate) async fn find_started(
    services: &Services,
    line: &mut Line,
    entry: &Entry,
) -> Result<Option<Handle>, NotStarted> {
    let mut patience = Patience::new();
    loop {
        match services.driver.list_owned(&services.identity.owner).await {
            Ok(owned) => {
                let found = owned.into_iter().find(|one| one.handle.key == entry.key);
                return Ok(found.map(|one| one.handle));
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot see yet whether the job was started");
                line.unless_ended(patience.wait()).await?;
            }
        }
    }
}

/// Tells the API what there is to know of new infrastructure. All of it is of use to people and none of it to the job, so nothing waits
/// for it but the end, and what fails is only logged.
pub(crate) async fn announce(services: &Services, entry: &Entry, handle: &Handle) {
    let flow_run = FlowRunId(entry.key.flow_run);
    let id = &handle.infrastructure_id;
    let said = format!(
        "Worker '{}' has started it, attempt {}: {} {id}.",
        services.identity.worker, entry.key.attempt, handle.kind
    );
    services.run_log.mention(flow_run, said).await;
    if let Reporter::Worker { failed: _ } = entry.reporter {
        match services
            .client
            .propose_state(flow_run, &ProposedState::new(StateType::Running))
            .await
        {
            Ok(_) => {}
            Err(error) => tracing::warn!(error = %chain(&error), "cannot say that it runs"),
        }
    }
    let labels = run_labels(services);
    let (stored, labelled) = tokio::join!(
        services.client.set_infrastructure_id(flow_run, id),
        services.client.update_labels(flow_run, &labels),
    );
    if let Err(error) = stored {
        tracing::warn!(error = %chain(&error), "cannot store the infrastructure id {id}");
    }
    if let Err(error) = labelled {
        tracing::debug!(error = %chain(&error), "cannot label the flow run");
    }
}

/// The labels that tie a flow run to its worker and pool, as the reference writes them (`BaseWorker`, 3.8.8).
fn run_labels(services: &Services) -> Map<String, Value> {
    [
        ("prefect.worker.name", services.identity.worker.as_str()),
        ("prefect.worker.type", services.driver.kind().as_str()),
        ("prefect.work-pool.name", services.identity.pool.as_str()),
        ("prefect.work-pool.id", services.identity.pool_id.as_str()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), Value::from(value)))
    .collect()
}

/// Makes sure that nothing is left of an attempt that did not start. Until it succeeds nobody is told that it did not: what is reported dead
/// must not come alive later.
pub(crate) async fn undo(services: &Services, line: &mut Line, entry: &Entry) {
    let mut patience = Patience::new();
    while let Err(error) = services.driver.destroy(entry.key).await {
        tracing::warn!(error = %chain(&error), "cannot remove what may have been begun; trying again");
        patience.wait().await;
        if line.order() == Order::Stop {
            break;
        }
    }
}

/// Removes infrastructure and workspace of an attempt that is reported. What fails is found again by the janitor of the next start.
pub(crate) async fn destroy(services: &Services, entry: &Entry) {
    if let Err(error) = services.driver.destroy(entry.key).await {
        tracing::warn!(error = %chain(&error), "cannot remove the infrastructure now");
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
