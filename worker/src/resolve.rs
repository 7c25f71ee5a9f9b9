//! From a claimed flow run to a plan: deployment, flow, pool template, blocks and variables give one job configuration.
//!
//! What it becomes is said by one pure function, [`resolution::resolve`]; this is what asks the API for it, and the worker's own part.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value};

use worker_api::types::{Deployment, LogLevel};
use worker_config::{
    DriverKind,
    resolution::{self, Inputs, Resolution},
    template::{BaseJobTemplate, Lookups},
};
use worker_drivers::{Environment, Job, Plan, Program, RunKey};

use crate::{
    emitter::About,
    journal::{Entry, NotStarted, Reporter},
    line::Line,
    pull::{self, Code},
    secrets::Secrets,
    services::Services,
    sources::{self, Polled, Sources},
    telemetry::chain,
};

/// A job that lacks only its code.
struct Resolved {
    /// Who tells the API how it goes.
    reporter: Reporter,
    /// Whether its output is shown (`stream_output`).
    shown: bool,
    deployment: Option<Deployment>,
    command: Option<String>,
    name: String,
    environment: Environment,
    labels: BTreeMap<String, String>,
    configuration: Map<String, Value>,
}

/// What the API's objects are called, and all that names in templates may ask of them.
struct Ids {
    flow_run: String,
    flow: String,
    deployment: Option<String>,
    pool: String,
    /// Only Prefect Cloud knows workers by an id.
    worker: Option<String>,
    flow_run_json: Value,
    flow_json: Value,
    no_variables: Map<String, Value>,
}

// === impl Ids ===

impl Ids {
    fn of(services: &Services, sources: &Sources) -> Self {
        Self {
            flow_run: sources.flow_run.id.to_string(),
            flow: sources.flow.id.to_string(),
            deployment: sources.deployment.as_ref().map(|one| one.id.to_string()),
            pool: sources.pool.id.to_string(),
            worker: services.client.worker_id().map(|id| id.to_string()),
            flow_run_json: json(&sources.flow_run),
            flow_json: json(&sources.flow),
            no_variables: Map::new(),
        }
    }
}

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
    let (resolved, secrets) = resolve(services, line, sources).await?;
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
    warn_of_unknown_placeholders(services, &sources).await?;
    let settings = services.job_environment.iter();
    let settings = settings
        .map(|(name, value)| (name.clone(), value.expose().to_owned()))
        .collect();
    let ids = Ids::of(services, &sources);
    let environment = environment_reader(services);
    let inputs = inputs(services, &sources, &ids, &settings, &environment);
    let mut lookups = Lookups::default();
    let resolved = loop {
        let resolution = resolution::resolve(&inputs, &lookups);
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
    let resolved =
        judge(services, sources.deployment, resolved).map_err(|why| secrets.cover(why))?;
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
    let Resolved {
        reporter,
        shown: _,
        deployment,
        command,
        name,
        environment,
        labels,
        mut configuration,
    } = resolved;
    // A command that is meant to run Prefect's engine pulls for itself, as it does under the reference.
    let delegated = command.is_some() && reporter == Reporter::Engine;
    let inside = services.driver.kind() != DriverKind::Process;
    let code = match &deployment {
        Some(deployment) if inside && is_in_job(deployment) => match reporter {
            Reporter::Engine => Code::LeftToJob,
            Reporter::Worker { failed: _ } => Code::InPlace,
        },
        Some(deployment) if !delegated => {
            pull::pull(services, line, entry, deployment, &environment).await?
        }
        _ => Code::InPlace,
    };
    let entrypoint = deployment.and_then(|deployment| deployment.entrypoint);
    let program = program(command, entrypoint, reporter, &code)?;
    let workspace = code.directory();
    if let Some(directory) = &workspace {
        place(&mut configuration, directory, &program);
    }
    let job = Job {
        key: entry.key,
        owner: services.identity.owner.clone(),
        name,
        program,
        environment,
        labels,
        configuration,
        workspace,
    };
    services
        .driver
        .plan(&job, &services.policy)
        .map_err(|error| NotStarted::Failed(chain(&error)))
}

/// Whether the code of a deployment is already where its job runs, for jobs with a file system of their own: nothing is fetched, or a step speaks of a
/// directory that only the job has.
fn is_in_job(deployment: &Deployment) -> bool {
    let steps = deployment.pull_steps.iter().flatten();
    let named = steps.flat_map(|step| step.iter().filter(|(_, inputs)| inputs.is_object()));
    let mut fetches = false;
    for (name, inputs) in named {
        if name.ends_with(".set_working_directory") {
            let directory = inputs.get("directory").and_then(Value::as_str);
            if directory.is_some_and(|directory| directory.starts_with('/')) {
                return true;
            }
        } else {
            fetches = true;
        }
    }
    !fetches && deployment.storage_document_id.is_none()
}

/// What resolution is given. It knows nothing of the API's types.
fn inputs<'a>(
    services: &'a Services,
    sources: &'a Sources,
    ids: &'a Ids,
    settings: &'a BTreeMap<String, String>,
    environment: &'a (dyn Fn(&str) -> Option<String> + Sync),
) -> Inputs<'a> {
    let Sources {
        flow_run,
        deployment,
        flow,
        pool,
    } = sources;
    let named = |id: &'a str, name: &'a str| resolution::Named { id, name };
    Inputs {
        kind: services.driver.kind(),
        template: &pool.base_job_template,
        flow_run: resolution::FlowRun {
            named: named(&ids.flow_run, &flow_run.name),
            job_variables: flow_run.job_variables.as_ref().unwrap_or(&ids.no_variables),
            json: &ids.flow_run_json,
        },
        flow: resolution::Flow {
            named: named(&ids.flow, &flow.name),
            json: &ids.flow_json,
        },
        deployment: deployment
            .as_ref()
            .zip(ids.deployment.as_deref())
            .map(|(one, id)| resolution::Deployment {
                named: named(id, &one.name),
                updated: one.updated,
                job_variables: &one.job_variables,
            }),
        pool: named(&ids.pool, &pool.name),
        worker: resolution::Worker {
            id: ids.worker.as_deref(),
            name: &services.identity.worker,
        },
        settings,
        version: worker_api::REFERENCE_VERSION,
        environment,
    }
}

/// Who tells how a flow run of a deployment with these job variables went.
pub(crate) fn reporter<'a>(
    deployment: Option<&Deployment>,
    variable: impl Fn(&str) -> Option<&'a Value>,
) -> Reporter {
    let plain = deployment.is_none_or(|one| one.entrypoint.is_none())
        || variable("plain_command") == Some(&Value::Bool(true));
    if plain {
        Reporter::Worker {
            failed: variable("exit_state").and_then(Value::as_str) == Some("failed"),
        }
    } else {
        Reporter::Engine
    }
}

/// Reads what the worker itself wants to know of a resolved job.
fn judge(
    services: &Services,
    deployment: Option<Deployment>,
    resolved: resolution::Resolved,
) -> Result<Resolved, NotStarted> {
    let resolution::Resolved {
        command,
        name,
        environment,
        labels,
        configuration,
        variables,
    } = resolved;
    let reporter = reporter(deployment.as_ref(), |name| variables.get(name));
    if command.is_some() && !services.policy.allow_command {
        return Err(NotStarted::Failed(
            "a command of its own is not allowed by this worker's policy".to_owned(),
        ));
    }
    let shown = configuration.get("stream_output") != Some(&Value::Bool(false));
    Ok(Resolved {
        reporter,
        shown,
        deployment,
        command,
        name,
        environment: Environment(environment),
        labels,
        configuration,
    })
}

/// What the job runs.
fn program(
    command: Option<String>,
    entrypoint: Option<String>,
    reporter: Reporter,
    code: &Code,
) -> Result<Program, NotStarted> {
    match (command, entrypoint) {
        (Some(line), _) => {
            Ok(Program::Command { line, engine: reporter == Reporter::Engine })
        }
        (None, Some(_)) if *code == Code::LeftToJob => Ok(Program::Execute),
        (None, Some(entrypoint)) => Ok(Program::Engine { entrypoint }),
        (None, None) => Err(NotStarted::Failed(
            "there is nothing to run: the deployment has no entrypoint, and no job variable 'command' is set"
                .to_owned(),
        )),
    }
}

/// Makes the configured working directory agree with where the code is: the engine runs where the pull steps ended, a command in the
/// configured directory, which may be given relative to the code.
fn place(configuration: &mut Map<String, Value>, directory: &std::path::Path, program: &Program) {
    let Some(Value::String(configured)) = configuration.get("working_dir") else {
        return;
    };
    if matches!(program, Program::Engine { .. }) {
        configuration.remove("working_dir");
    } else {
        let joined = directory.join(configured);
        configuration.insert("working_dir".to_owned(), joined.to_string_lossy().into());
    }
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// What `{{ $NAME }}` reads: the worker's environment, if its operator allows that.
fn environment_reader(services: &Services) -> impl Fn(&str) -> Option<String> {
    let allowed = services.policy.allow_environment_placeholders;
    move |name| allowed.then(|| std::env::var(name).ok()).flatten()
}

fn in_pool(services: &Services, error: &(dyn std::error::Error + 'static)) -> NotStarted {
    NotStarted::Failed(format!(
        "work pool '{}': {}",
        services.identity.pool,
        chain(error)
    ))
}
