//! From a claimed flow run to a plan: deployment, flow, pool template, blocks and variables give one job configuration.
//!
//! Everything that turns what people wrote into a job is behind one function, `resolve`, because a server endpoint may do it one day
//! (PrefectHQ/prefect#22859).

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value};

use worker_api::types::{Deployment, Flow, FlowRun, LogLevel, WorkPool};
use worker_config::template::{BaseJobTemplate, JobConfiguration, TemplateError};
use worker_drivers::{Environment, Job, Plan, Program, RunKey};

use crate::{
    emitter::About,
    journal::{Entry, NotStarted, Reporter},
    line::Line,
    pull::{self, Code},
    run::Polled,
    services::Services,
    sources::{self, Sources},
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

/// Resolves a claimed flow run, gets its code to where the job can have it, and plans the job.
pub(crate) async fn plan(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
    polled: Option<Polled>,
) -> Result<(Plan, About), NotStarted> {
    let sources = sources::read(services, line, entry, polled).await?;
    let about = About::new(
        (&sources.flow_run, &sources.flow),
        sources.deployment.as_ref(),
        (sources.pool.id.0, &sources.pool.name),
    );
    let due = sources.flow_run.next_scheduled_start_time;
    let resolved = resolve(services, line, sources).await?;
    entry.reporter = resolved.reporter;
    entry.shown = resolved.shown;
    if entry.reporter != Reporter::Engine {
        // The engine waits for its time by itself, and is better started early; a command knows nothing of time.
        until_due(line, entry.key, due).await?;
    }
    let plan = pull_and_plan(services, line, entry, resolved).await?;
    Ok((plan, about))
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

/// Turns what people wrote into one job configuration.
async fn resolve(
    services: &Services,
    line: &mut Line,
    sources: Sources,
) -> Result<Resolved, NotStarted> {
    let template = BaseJobTemplate::parse(&sources.pool.base_job_template)
        .map_err(|error| in_pool(services, &error))?;
    let none = Map::new();
    let deployed = sources
        .deployment
        .as_ref()
        .map_or(&none, |one| &one.job_variables);
    let given = sources.flow_run.job_variables.as_ref().unwrap_or(&none);
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
    let filled = template
        .fill(deployed, given, &environment_reader(services))
        .map_err(|error| in_pool(services, &error))?;
    let mut lookups = sources::look_up(services, line, &filled.references()).await?;
    let with_blocks = filled
        .with_blocks(&lookups)
        .map_err(|error| in_pool(services, &error))?;
    // What a block brought along may name variables of its own.
    lookups.variables = sources::look_up(services, line, &with_blocks.references())
        .await?
        .variables;
    let configuration = with_blocks
        .complete(&lookups)
        .map_err(|error| in_pool(services, &error))?;
    let own = template
        .merged_variables(deployed, given)
        .map_err(|error| in_pool(services, &error))?;
    assemble(services, sources, configuration, &own)
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
    let code = match &deployment {
        Some(deployment) if !delegated => pull::pull(services, line, entry, deployment).await?,
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

/// Puts together what template, settings and identity say, without asking anybody.
fn assemble(
    services: &Services,
    sources: Sources,
    configuration: JobConfiguration,
    own: &Map<String, Value>,
) -> Result<Resolved, NotStarted> {
    let Sources {
        flow_run,
        deployment,
        flow,
        pool,
    } = sources;
    let invalid = |error: TemplateError| in_pool(services, &error);
    let plain = deployment
        .as_ref()
        .is_none_or(|one| one.entrypoint.is_none())
        || own.get("plain_command") == Some(&Value::Bool(true));
    let failed = own.get("exit_state").and_then(Value::as_str) == Some("failed");
    let mut environment: BTreeMap<String, String> = services
        .job_environment
        .iter()
        .map(|(name, value)| (name.clone(), value.expose().to_owned()))
        .collect();
    environment.extend(identity_environment(
        services,
        &flow_run,
        deployment.as_ref(),
        &flow,
    ));
    for (name, value) in configuration.env().map_err(invalid)? {
        // A null takes away what a lower layer set.
        match value {
            Some(value) => environment.insert(name, value),
            None => environment.remove(&name),
        };
    }
    let mut labels = identity_labels(services, &flow_run, deployment.as_ref(), &flow, &pool);
    labels.extend(configuration.labels().map_err(invalid)?);
    let name = configuration
        .name(
            &json(&flow),
            &json(&flow_run),
            &environment_reader(services),
        )
        .map_err(invalid)?
        .unwrap_or_else(|| flow_run.name.clone());
    let command = configuration.command().map_err(invalid)?;
    if command.is_some() && !services.policy.allow_command {
        return Err(NotStarted::Failed(
            "a command of its own is not allowed by this worker's policy".to_owned(),
        ));
    }
    let configuration = configuration.into_map();
    let shown = configuration.get("stream_output") != Some(&Value::Bool(false));
    let reporter = if plain {
        Reporter::Worker { failed }
    } else {
        Reporter::Engine
    };
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

/// The identity variables of a job (`BaseJobConfiguration`, 3.8.8); each only when it is known.
fn identity_environment(
    services: &Services,
    flow_run: &FlowRun,
    deployment: Option<&Deployment>,
    flow: &Flow,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
        ("PREFECT__FLOW_RUN_ID".to_owned(), flow_run.id.to_string()),
        (
            "PREFECT__WORKER_NAME".to_owned(),
            services.identity.worker.clone(),
        ),
        ("PREFECT__FLOW_ID".to_owned(), flow.id.to_string()),
        ("PREFECT__FLOW_NAME".to_owned(), flow.name.clone()),
    ]);
    if let Some(deployment) = deployment {
        variables.insert(
            "PREFECT__DEPLOYMENT_ID".to_owned(),
            deployment.id.to_string(),
        );
        variables.insert(
            "PREFECT__DEPLOYMENT_NAME".to_owned(),
            deployment.name.clone(),
        );
    }
    variables
}

/// The identity labels of a job (`BaseJobConfiguration`, 3.8.8).
fn identity_labels(
    services: &Services,
    flow_run: &FlowRun,
    deployment: Option<&Deployment>,
    flow: &Flow,
    pool: &WorkPool,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut label = |name: &str, value: String| labels.insert(format!("prefect.io/{name}"), value);
    label("flow-run-id", flow_run.id.to_string());
    label("flow-run-name", flow_run.name.clone());
    label("version", worker_api::REFERENCE_VERSION.to_owned());
    label("work-pool-name", pool.name.clone());
    label("work-pool-id", pool.id.to_string());
    label("worker-name", services.identity.worker.clone());
    label("flow-id", flow.id.to_string());
    label("flow-name", flow.name.clone());
    if let Some(deployment) = deployment {
        label("deployment-id", deployment.id.to_string());
        label("deployment-name", deployment.name.clone());
        if let Some(updated) = deployment.updated {
            label(
                "deployment-updated",
                updated.to_string().replace('Z', "+00:00"),
            );
        }
    }
    labels
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
