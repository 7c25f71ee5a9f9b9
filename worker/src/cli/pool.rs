//! `worker pool`: work pools.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use serde_json::{Value, json};

use worker_api::types::{WorkPool, WorkPoolCreate};
use worker_config::{DriverKind, template::BaseJobTemplate};

use super::{
    args::PoolCommand,
    context::{Api, Context, Misconfigured, Usage},
    out::Out,
};

pub(crate) async fn pool(
    context: Context,
    out: Out,
    command: PoolCommand,
) -> anyhow::Result<ExitCode> {
    let api = context.api(None).await?;
    match command {
        PoolCommand::Create {
            name,
            kind,
            base_job_template,
            concurrency_limit,
            paused,
        } => {
            let kind = kind_of(&name, kind.as_deref())?;
            let template = match base_job_template {
                Some(file) => Some(read_template(&file)?),
                None => default_template(kind),
            };
            let request = WorkPoolCreate {
                name,
                kind: kind.as_str().to_owned(),
                description: None,
                base_job_template: template,
                is_paused: paused,
                concurrency_limit,
            };
            let created = api.client.create_work_pool(&request).await?;
            out.say(&format!(
                "Created work pool '{}' of type '{}'.",
                created.name, created.kind
            ));
            out.json(&created);
        }
        PoolCommand::Ls => list(&api, out).await?,
        PoolCommand::Inspect { name } => inspect(&api, out, &name).await?,
    }
    api.end().await;
    Ok(ExitCode::SUCCESS)
}

/// Reads and checks a base job template.
pub(crate) fn read_template(file: &Path) -> anyhow::Result<Value> {
    let wrong =
        |reason: String| Misconfigured(format!("base job template {}: {reason}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let template: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    BaseJobTemplate::parse(&template).map_err(|error| wrong(crate::telemetry::chain(&error)))?;
    Ok(template)
}

fn kind_of(name: &str, given: Option<&str>) -> Result<DriverKind, Usage> {
    match given {
        Some(given) => given
            .parse()
            .map_err(|error: worker_config::kind::UnknownKind| Usage(error.to_string())),
        None => DriverKind::guess_from_name(name).ok_or_else(|| {
            Usage(format!(
                "of which type is '{name}' to be? give --type process, docker or kubernetes"
            ))
        }),
    }
}

/// The template of a type whose driver is in this release; the first worker of another type brings its own.
fn default_template(kind: DriverKind) -> Option<Value> {
    match kind {
        DriverKind::Process => Some(worker_drivers::subprocess::default_template()),
        DriverKind::Docker | DriverKind::Kubernetes => None,
    }
}

async fn list(api: &Api, out: Out) -> anyhow::Result<()> {
    let pools = api.client.list_work_pools().await?;
    if pools.is_empty() {
        out.say("There are no work pools; `worker pool create NAME --type TYPE` makes one.");
        return Ok(());
    }
    let rows = pools.iter().map(|pool| {
        vec![
            pool.name.clone(),
            pool.kind.clone(),
            condition(pool),
            limit(pool.concurrency_limit),
        ]
    });
    out.table(&["NAME", "TYPE", "STATUS", "LIMIT"], rows.collect());
    for pool in &pools {
        out.json(pool);
    }
    Ok(())
}

async fn inspect(api: &Api, out: Out, name: &str) -> anyhow::Result<()> {
    let pool = api.client.read_work_pool(name).await?;
    let queues = api.client.list_work_queues(name).await?;
    let workers = api.client.list_workers(name).await?;
    out.json(&json!({"work_pool": pool, "work_queues": queues, "workers": workers}));
    out.say(&format!(
        "{}  type {}  {}  limit {}",
        pool.name,
        pool.kind,
        condition(&pool),
        limit(pool.concurrency_limit)
    ));
    out.say("\nWork queues");
    let rows = queues.iter().map(|queue| {
        let priority = queue
            .priority
            .map_or_else(|| "-".to_owned(), |priority| priority.to_string());
        vec![
            queue.name.clone(),
            priority,
            limit(queue.concurrency_limit),
            if queue.is_paused { "paused" } else { "" }.to_owned(),
        ]
    });
    out.table(&["NAME", "PRIORITY", "LIMIT", ""], rows.collect());
    out.say("\nWorkers");
    let rows = workers.iter().map(|worker| {
        let seen = worker
            .last_heartbeat_time
            .map(|at| at.to_string())
            .unwrap_or_default();
        vec![
            worker.name.clone(),
            worker.status.clone().unwrap_or_default(),
            seen,
        ]
    });
    out.table(&["NAME", "STATUS", "LAST HEARTBEAT"], rows.collect());
    out.say("\nBase job template");
    out.say(&serde_json::to_string_pretty(&pool.base_job_template).context("base job template")?);
    Ok(())
}

fn condition(pool: &WorkPool) -> String {
    match &pool.status {
        _ if pool.is_paused => "PAUSED".to_owned(),
        Some(status) => serde_json::to_value(status)
            .ok()
            .and_then(|status| status.as_str().map(str::to_owned))
            .unwrap_or_default(),
        None => String::new(),
    }
}

fn limit(limit: Option<u32>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}
