//! What a flow run was made from: read before anything can be resolved, and insisted on while the API fails.

use std::time::Duration;

use tokio::time::Instant;

use worker_api::{
    ApiError,
    types::{BlockDocumentId, Deployment, Flow, FlowRun, FlowRunId, WorkPool},
};
use worker_config::template::{Lookups, References};

use crate::{
    journal::{Entry, NotStarted},
    line::Line,
    patience::Patience,
    services::Services,
    telemetry::chain,
};

/// How long the API may fail before a claimed flow run is given back: long enough for a restart of the server, short enough that another
/// worker with a better connection gets it.
const READ_LIMIT: Duration = Duration::from_mins(10);

/// A flow run as a poll showed it.
pub(crate) struct Polled {
    pub(crate) flow_run: FlowRun,
    /// When the poll was answered: what is read after that is as new as the flow run.
    pub(crate) answered: Instant,
}

/// How many answers to one question may make no sense until the flow run ends with that for a reason.
const SENSELESS: u32 = 5;

/// What is read before anything can be resolved.
pub(crate) struct Sources {
    pub(crate) flow_run: FlowRun,
    pub(crate) deployment: Option<Deployment>,
    pub(crate) flow: Flow,
    pub(crate) pool: WorkPool,
}

/// Reads what a flow run was made from, as new as the flow run itself, and the pool's template, as new as the poll that showed it.
pub(crate) async fn read(
    services: &Services,
    line: &mut Line,
    entry: &Entry,
    polled: Option<Polled>,
) -> Result<Sources, NotStarted> {
    let client = &services.client;
    let id = FlowRunId(entry.key.flow_run);
    let (flow_run, since) = if let Some(Polled { flow_run, answered }) = polled {
        (flow_run, answered)
    } else {
        let since = Instant::now();
        let read = insist(line, || client.read_flow_run(id)).await?;
        (read.map_err(|e| failed(&e))?, since)
    };
    let deployment = match flow_run.deployment_id {
        None => None,
        Some(id) => {
            let read = || client.read_deployment(id);
            match insist(line, || services.deployments.read(&id, since, read)).await? {
                Ok(deployment) => Some(deployment),
                Err(error) if error.is_not_found() => {
                    return Err(NotStarted::DeploymentGone(id.to_string()));
                }
                Err(error) => return Err(failed(&error)),
            }
        }
    };
    let id = flow_run.flow_id;
    let flow = insist(line, || {
        let read = || client.read_flow(id);
        services.flows.read(&id, since, read)
    })
    .await?
    .map_err(|e| failed(&e))?;
    let shown = services.channel_pool.borrow().clone();
    let pool = match shown {
        // The server shows each change on the worker channel. One that has gone silent is given up within a minute; until then a changed
        // template may not be seen, as by the reference (3.8.8).
        Some(pool) => pool,
        None => insist(line, || {
            let name = &services.identity.pool;
            let read = || client.read_work_pool(name);
            services.pools.read(name, since, read)
        })
        .await?
        .map_err(|e| failed(&e))?,
    };
    Ok(Sources {
        flow_run,
        deployment,
        flow,
        pool,
    })
}

/// Reads the blocks and variables that a job configuration refers to.
pub(crate) async fn look_up(
    services: &Services,
    line: &mut Line,
    references: &References,
) -> Result<Lookups, NotStarted> {
    let client = &services.client;
    let mut lookups = Lookups::default();
    for (type_slug, name) in &references.blocks {
        let read = insist(line, || client.read_block_document(type_slug, name)).await?;
        let data = found(read)?.map(|block| block.data);
        lookups
            .blocks
            .insert((type_slug.clone(), name.clone()), data);
    }
    for id in &references.block_documents {
        let parsed: BlockDocumentId = id.parse().map_err(|_| {
            NotStarted::Failed(format!(
                "'{id}' in a $ref is not the id of a block document"
            ))
        })?;
        let read = insist(line, || client.read_block_document_by_id(parsed)).await?;
        lookups
            .block_documents
            .insert(id.clone(), found(read)?.map(|block| block.data));
    }
    for name in &references.variables {
        let read = insist(line, || client.find_variable(name))
            .await?
            .map_err(|e| failed(&e))?;
        lookups
            .variables
            .insert(name.clone(), read.map(|variable| variable.value));
    }
    Ok(lookups)
}

/// Repeats a read while the API fails in a way that may pass, a refused credential included: a person can mend that, and the flow run is
/// not at fault.
pub(crate) async fn insist<T, F>(
    line: &mut Line,
    read: impl Fn() -> F,
) -> Result<Result<T, ApiError>, NotStarted>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let begun = Instant::now();
    let mut patience = Patience::new();
    let mut senseless = 0;
    loop {
        let answer = line.unless_ended(read()).await?;
        // A proxy that answers for the server comes and goes; what the server has stored and we cannot read stays.
        senseless += u32::from(matches!(answer, Err(ApiError::Unexpected { .. })));
        match answer {
            Err(error) if error.may_pass() && senseless < SENSELESS => {
                if begun.elapsed() > READ_LIMIT {
                    return Err(NotStarted::PutBack(chain(&error)));
                }
                tracing::warn!(error = %chain(&error), "the API does not answer; trying again");
                line.unless_ended(patience.wait()).await?;
            }
            settled => return Ok(settled),
        }
    }
}

/// Absent is an answer here: what it means is the template's affair.
pub(crate) fn found<T>(read: Result<T, ApiError>) -> Result<Option<T>, NotStarted> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

fn failed(error: &ApiError) -> NotStarted {
    NotStarted::Failed(chain(error))
}
