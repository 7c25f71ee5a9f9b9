//! What an earlier process of this worker left behind, and what is to be done with it.
//!
//! What the journal holds is continued. What the engine holds and the journal does not (the journal was lost, or a removal failed) is continued
//! if its flow run is not over, else removed. Nothing of other workers is looked at.

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;

use worker_api::{
    ApiError,
    types::{Deployment, FlowRun, FlowRunId, StateType, TransitionId},
};
use worker_drivers::{Owned, RunKey};

use crate::{
    event::Event,
    journal::{Entry, Reporter, Step},
    patience::Patience,
    resolve,
    services::Services,
    task,
    telemetry::chain,
};

/// Looks after infrastructure without a journal entry, and after workspaces without infrastructure, once, after the start. It takes as long as
/// engine and API take to answer; meanwhile the worker works, so what is an orphan is decided by the journal as it is then.
pub(crate) async fn adopt_orphans(services: Arc<Services>, events_tx: mpsc::Sender<Event>) {
    let owned = list_owned(&services).await;
    let with_jobs = owned.iter().map(|one| one.handle.key).collect();
    sweep_workspaces(&services, with_jobs).await;
    let mut orphans = Vec::new();
    for one in owned {
        // A journal that is gone ends the worker.
        if !services.journal.holds(one.handle.key).await.unwrap_or(true) {
            orphans.push(one);
        }
    }
    if orphans.is_empty() {
        return;
    }
    // What a life removed meanwhile is in the older list only. A life forgets what it has removed, never the other way round.
    let there: HashSet<RunKey> = list_owned(&services)
        .await
        .into_iter()
        .map(|one| one.handle.key)
        .collect();
    orphans.retain(|orphan| there.contains(&orphan.handle.key));
    for orphan in orphans {
        if let Some(entry) = adopt(&services, orphan).await
            && events_tx.send(Event::Recovered(vec![entry])).await.is_err()
        {
            return;
        }
    }
}

async fn list_owned(services: &Services) -> Vec<Owned> {
    let mut patience = Patience::new();
    loop {
        match services.driver.list_owned(&services.identity.owner).await {
            Ok(owned) => return owned,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot see yet what an earlier process left");
                patience.wait().await;
            }
        }
    }
}

/// Removes workspaces of attempts that neither the journal nor the engine knows.
async fn sweep_workspaces(services: &Services, with_jobs: HashSet<RunKey>) {
    let workspaces = services.workspaces.clone();
    let found = task::blocking(move || {
        let names = std::fs::read_dir(workspaces)
            .into_iter()
            .flatten()
            .flatten();
        names.map(|entry| entry.path()).collect::<Vec<_>>()
    });
    for path in found.await {
        let key = path
            .file_name()
            .and_then(|name| name.to_str()?.parse::<RunKey>().ok());
        let in_use = match key {
            Some(key) => {
                with_jobs.contains(&key) || services.journal.holds(key).await.unwrap_or(true)
            }
            // Nobody makes anything else here.
            None => false,
        };
        if !in_use {
            task::blocking(move || {
                if let Err(error) = std::fs::remove_dir_all(&path) {
                    tracing::warn!(%error, workspace = %path.display(), "cannot remove a workspace that was left behind");
                }
            })
            .await;
        }
    }
}

async fn adopt(services: &Services, orphan: Owned) -> Option<Entry> {
    let Owned { handle, phase: _ } = orphan;
    let id = FlowRunId(handle.key.flow_run);
    let mut patience = Patience::new();
    let flow_run = loop {
        match services.client.read_flow_run(id).await {
            Ok(flow_run) => break Some(flow_run),
            Err(error) if error.is_not_found() => break None,
            Err(error) => {
                tracing::warn!(flow_run = %id, error = %chain(&error), "cannot ask what a job that was left belongs to");
                patience.wait().await;
            }
        }
    };
    let over = flow_run.as_ref().is_none_or(|flow_run| {
        flow_run
            .state_type
            .as_ref()
            .is_some_and(StateType::is_final)
    });
    if over {
        tracing::info!(flow_run = %id, "removing a job whose flow run is over");
        if let Err(error) = services.driver.destroy(handle.key).await {
            tracing::warn!(flow_run = %id, error = %chain(&error), "cannot remove it now");
        }
        return None;
    }
    tracing::info!(flow_run = %id, "taking up a job that the journal does not know");
    let flow_run = flow_run?;
    let (reporter, shown) = find_manner(services, &flow_run).await;
    Some(Entry {
        key: handle.key,
        reporter,
        name: flow_run.name,
        transition: TransitionId::random(),
        step: Step::Submitted,
        handle: Some(handle),
        lease: None,
        told: None,
        claimed: Timestamp::now(),
        workspace: None,
        // How much of it was sent is lost with the entry: better twice than never.
        output: worker_drivers::LogCursor::default(),
        shown,
    })
}

/// Who tells how a flow run went whose entry is lost, and whether its output is shown, by what people wrote of it.
async fn find_manner(services: &Services, flow_run: &FlowRun) -> (Reporter, bool) {
    let mut patience = Patience::new();
    loop {
        match ask_for_manner(services, flow_run).await {
            Ok(manner) => return manner,
            // Nobody knows any more. The engine's rules only ever report what is missing.
            Err(error) if error.is_not_found() => return (Reporter::Engine, false),
            Err(error) => {
                tracing::warn!(flow_run = %flow_run.id, error = %chain(&error), "cannot ask what a job that was left is");
                patience.wait().await;
            }
        }
    }
}

async fn ask_for_manner(
    services: &Services,
    flow_run: &FlowRun,
) -> Result<(Reporter, bool), ApiError> {
    let client = &services.client;
    let pool = client.read_work_pool(&services.identity.pool).await?;
    let deployment = match flow_run.deployment_id {
        Some(id) => Some(client.read_deployment(id).await?),
        None => None,
    };
    let template = &pool.base_job_template;
    Ok(manner(flow_run, deployment.as_ref(), template))
}

/// The flow run's job variables count before the deployment's, and those before the pool's defaults.
fn manner(
    flow_run: &FlowRun,
    deployment: Option<&Deployment>,
    template: &Value,
) -> (Reporter, bool) {
    let variable = |name: &str| {
        let of_flow_run = flow_run.job_variables.as_ref();
        of_flow_run
            .and_then(|variables| variables.get(name))
            .or_else(|| deployment?.job_variables.get(name))
            .or_else(|| template["variables"]["properties"][name].get("default"))
    };
    let reporter = resolve::reporter(deployment, variable);
    let silent = variable("stream_output") == Some(&Value::Bool(false));
    (reporter, reporter != Reporter::Engine && !silent)
}

#[cfg(test)]
mod tests;
