//! `worker pool`: work pools.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use worker_api::{
    ApiError,
    types::{WorkPool, WorkPoolCreate},
};
use worker_config::{DriverKind, template::BaseJobTemplate};

use super::{
    args::PoolCommand,
    context::{Api, Context, Misconfigured, Usage, about},
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
                Some(file) => read_template(&file)?,
                None => default_template(kind),
            };
            let request = WorkPoolCreate {
                name,
                kind: kind.as_str().to_owned(),
                description: None,
                base_job_template: Some(template),
                is_paused: paused,
                concurrency_limit,
            };
            let created = api.client.create_work_pool(&request).await;
            let created = created.map_err(|error| taken(error, &request.name))?;
            out.say(&format!(
                "Created work pool '{}' of type '{}'.",
                created.name, created.kind
            ));
            out.json(&created);
        }
        PoolCommand::Ls => list(&api, out).await?,
        PoolCommand::Inspect { name } => inspect(&api, out, &name).await?,
        PoolCommand::Update {
            name,
            base_job_template,
            concurrency_limit,
            description,
        } => {
            let fields = changes(base_job_template, concurrency_limit, description)?;
            change(&api, out, &name, &fields, "changed").await?;
        }
        PoolCommand::Pause { name } => pause(&api, out, &name, true).await?,
        PoolCommand::Resume { name } => pause(&api, out, &name, false).await?,
        PoolCommand::Rm { name, yes } => remove(&api, out, &name, yes).await?,
        PoolCommand::Template { name, kind } => {
            let template = match name {
                Some(name) => read(&api, &name).await?.base_job_template,
                None => default_template(kind_of("", kind.as_deref())?),
            };
            out.json(&template);
            out.say(&serde_json::to_string_pretty(&template).context("base job template")?);
        }
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

/// The fields of a pool that are to be changed.
fn changes(
    template: Option<PathBuf>,
    limit: Option<String>,
    description: Option<String>,
) -> anyhow::Result<Map<String, Value>> {
    let template = template.map(|file| read_template(&file));
    let limit = limit.map(|text| read_limit(&text));
    let fields = [
        ("base_job_template", template.transpose()?),
        ("concurrency_limit", limit.transpose()?),
        ("description", description.map(Value::from)),
    ];
    let given = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let fields: Map<_, _> = given.collect();
    if fields.is_empty() {
        return Err(Usage("nothing is to be changed; see --help".to_owned()).into());
    }
    Ok(fields)
}

fn read_limit(text: &str) -> Result<Value, Usage> {
    if text == "none" {
        return Ok(Value::Null);
    }
    let limit: Result<u32, _> = text.parse();
    limit
        .map(Value::from)
        .map_err(|_| Usage(format!("'{text}' is no limit; give a number, or none")))
}

async fn pause(api: &Api, out: Out, name: &str, paused: bool) -> anyhow::Result<()> {
    let fields = Map::from_iter([("is_paused".to_owned(), paused.into())]);
    let done = if paused { "paused" } else { "resumed" };
    change(api, out, name, &fields, done).await
}

async fn change(
    api: &Api,
    out: Out,
    name: &str,
    fields: &Map<String, Value>,
    done: &str,
) -> anyhow::Result<()> {
    let updated = api.client.update_work_pool(name, fields).await;
    updated.map_err(|error| unknown(error, name))?;
    out.say(&format!("Work pool '{name}' is {done}."));
    out.json(&read(api, name).await?);
    Ok(())
}

/// Removes a pool that a person means to be removed: they say so beforehand, or are asked.
async fn remove(api: &Api, out: Out, name: &str, sure: bool) -> anyhow::Result<()> {
    if !sure {
        if out.json || !std::io::stdin().is_terminal() {
            return Err(Usage(format!(
                "work pool '{name}' is not removed, as there is no terminal to ask at; give --yes if you are sure"
            ))
            .into());
        }
        // Nobody is asked about what there is not.
        drop(read(api, name).await?);
        let prompt = format!(
            "Remove work pool '{name}' with its queues? Flow runs that wait in it are not run"
        );
        let answer = dialoguer::Confirm::new()
            .with_prompt(prompt)
            .default(false)
            .interact();
        anyhow::ensure!(
            answer.context("no answer")?,
            "work pool '{name}' is not removed"
        );
    }
    let removed = api.client.delete_work_pool(name).await;
    removed.map_err(|error| unknown(error, name))?;
    out.say(&format!("Work pool '{name}' is removed."));
    Ok(())
}

async fn read(api: &Api, name: &str) -> anyhow::Result<WorkPool> {
    let read = api.client.read_work_pool(name).await;
    read.map_err(|error| unknown(error, name))
}

fn unknown(error: ApiError, name: &str) -> anyhow::Error {
    let missing = format!("no work pool is named '{name}'; `worker pool ls` lists them");
    about(error, &missing)
}

fn taken(error: ApiError, name: &str) -> anyhow::Error {
    if error.is_conflict() {
        anyhow::anyhow!("a work pool named '{name}' exists already")
    } else {
        error.into()
    }
}

/// The template that a pool of a type begins with.
pub(crate) fn default_template(kind: DriverKind) -> Value {
    match kind {
        DriverKind::Process => worker_drivers::subprocess::default_template(),
        DriverKind::Docker => worker_drivers::docker::default_template(),
        DriverKind::Kubernetes => worker_drivers::kubernetes::default_template(),
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
    let pool = read(api, name).await?;
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
