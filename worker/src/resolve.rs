//! From a claimed flow run to a plan: deployment, flow, pool template, blocks and variables give one job configuration.
//!
//! What it becomes is said purely, by [`Site`]; this is what asks the API for it, and gets the code.

use std::time::Duration;

use jiff::Timestamp;

use worker_api::types::{FlowRunId, LogLevel};
use worker_config::{
    policy::Policy,
    resolution::Resolution,
    template::{BaseJobTemplate, Lookups},
};
use worker_drivers::{Plan, RunKey};

use crate::{
    emitter::About,
    journal::{Entry, NotStarted, Reporter},
    line::Line,
    pull::{self, Asked, Code},
    secrets::Secrets,
    services::Services,
    site::{Resolved, Site},
    sources::{self, Polled, Sources},
    telemetry::chain,
    traces::{self, Trace},
};

/// A job that can be submitted.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    /// What events about it name.
    pub(crate) about: About,
    /// What no reason may quote, should it not start.
    pub(crate) secrets: Secrets,
}

/// Resolves a claimed flow run, gets its code to where the job can have it, and plans the job.
pub(crate) async fn plan(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
    polled: Option<Polled>,
) -> Result<Planned, NotStarted> {
    let sources = sources::read(services, line, entry, polled).await?;
    let about = About::new(
        (&sources.flow_run, &sources.flow),
        sources.deployment.as_ref(),
        (sources.pool.id.0, &sources.pool.name),
    );
    let due = sources.flow_run.next_scheduled_start_time;
    warn_of_unknown_placeholders(services, &sources).await?;
    let (mut resolved, secrets) = resolve(services, line, sources).await?;
    if let Some(trace) = &entry.trace {
        hand_over(services, entry.key, trace, &mut resolved).await;
    }
    entry.reporter = resolved.reporter;
    entry.shown = resolved.shown;
    if entry.reporter != Reporter::Engine {
        // The engine waits for its time by itself, and is better started early; a command knows nothing of time.
        until_due(line, entry.key, due).await?;
    }
    let plan = pull_and_plan(services, line, entry, resolved)
        .await
        .map_err(|why| secrets.cover(why))?;
    Ok(Planned {
        plan,
        about,
        secrets,
    })
}

/// Where the job of an attempt is that was planned before, as a plan of which nothing is to be asked for: no code is brought for it.
pub(crate) async fn whereabouts(
    services: &Services,
    line: &mut Line,
    entry: &Entry,
) -> Result<Plan, NotStarted> {
    let sources = sources::read(services, line, entry, None).await?;
    let (resolved, secrets) = resolve(services, line, sources).await?;
    let planned = async {
        let job = resolved.with_code(entry.key, services.identity.owner.clone(), &Code::InPlace)?;
        // It was within the policy of its time.
        let plan = services.driver.plan(&job, &Policy::default());
        plan.map_err(|error| NotStarted::Failed(chain(&error)))
    };
    planned.await.map_err(|why| secrets.cover(why))
}

/// How long a flow run waits at the most for its trace to be known.
const HANDED_OVER_LATE: Duration = Duration::from_secs(2);

/// Lets the job know the trace that it is part of: any program by a variable, Prefect's engine by a label.
async fn hand_over(services: &Services, key: RunKey, trace: &Trace, resolved: &mut Resolved) {
    let environment = &mut resolved.environment.0;
    environment
        .entry(traces::VARIABLE.to_owned())
        .or_insert_with(|| trace.traceparent());
    let client = services.client.with_retries(1);
    let labels = trace.labels();
    let labelling = client.update_labels(FlowRunId(key.flow_run), &labels);
    match tokio::time::timeout(HANDED_OVER_LATE, labelling).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(error = %chain(&error), "the engine will begin a trace of its own");
        }
        Err(_elapsed) => tracing::debug!("the engine may begin a trace of its own"),
    }
}

async fn until_due(line: &mut Line, key: RunKey, due: Option<Timestamp>) -> Result<(), NotStarted> {
    let wait = due.map(|due| due.duration_since(Timestamp::now()));
    let Some(wait) = wait.and_then(|wait| Duration::try_from(wait).ok()) else {
        return Ok(());
    };
    // Who only waits does not keep others from starting.
    line.started(key).await;
    line.unless_ended(tokio::time::sleep(wait)).await
}

/// Turns what people wrote into one job configuration, with the secrets that are in it.
async fn resolve(
    services: &Services,
    line: &mut Line,
    sources: Sources,
) -> Result<(Resolved, Secrets), NotStarted> {
    let site = Site::of(services);
    let mut lookups = Lookups::default();
    let resolved = loop {
        let resolution = site.resolve(&sources, &lookups);
        let resolution =
            resolution.map_err(|error| Secrets::of(&lookups).cover(in_pool(services, &error)))?;
        match resolution {
            Resolution::Done(resolved) => break *resolved,
            Resolution::Needs(references) => {
                lookups.extend(sources::look_up(services, line, &references).await?);
            }
        }
    };
    let secrets = Secrets::of(&lookups);
    let resolved = site
        .judge(sources.deployment, resolved)
        .map_err(|why| secrets.cover(why))?;
    Ok((resolved, secrets))
}

/// Says which placeholders of the pool's template name no variable of it: they are most often spelling mistakes.
async fn warn_of_unknown_placeholders(
    services: &Services,
    sources: &Sources,
) -> Result<(), NotStarted> {
    let template = BaseJobTemplate::parse(&sources.pool.base_job_template)
        .map_err(|error| in_pool(services, &error))?;
    for unknown in template.unknown_placeholders() {
        let message = format!(
            "The base job template of work pool '{}' uses {{{{ {unknown} }}}}, which is not among its variables.",
            services.identity.pool
        );
        services
            .run_log
            .say(sources.flow_run.id, LogLevel::WARNING, message)
            .await;
    }
    Ok(())
}

async fn pull_and_plan(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
    resolved: Resolved,
) -> Result<Plan, NotStarted> {
    // A command that is meant to run Prefect's engine pulls for itself, as it does under the reference.
    let delegated = resolved.command.is_some() && resolved.reporter == Reporter::Engine;
    let code = match &resolved.deployment {
        Some(deployment) => {
            let asked = Asked {
                deployment,
                job: &resolved.environment,
                wish: resolved.wish,
                delegated,
            };
            let begun = Timestamp::now();
            let pulled = pull::pull(services, line, entry, asked).await;
            if !matches!(pulled, Ok(Code::InPlace | Code::LeftToJob | Code::Brought)) {
                let traces = &services.board.traces;
                traces.pulled(entry.key, begun, pulled.is_ok());
            }
            pulled?
        }
        None => Code::InPlace,
    };
    let job = resolved.with_code(entry.key, services.identity.owner.clone(), &code)?;
    services
        .driver
        .plan(&job, &services.policy())
        .map_err(|error| NotStarted::Failed(chain(&error)))
}

fn in_pool(services: &Services, error: &(dyn std::error::Error + 'static)) -> NotStarted {
    NotStarted::Failed(format!(
        "work pool '{}': {}",
        services.identity.pool,
        chain(error)
    ))
}
