//! What a flow run's job is on one worker: resolution, and what the worker itself reads out of its result. Pure, so that what `worker render` shows
//! is what a life would do.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use worker_api::{Client, types::Deployment};
use worker_config::{
    DriverKind, Secret,
    policy::Policy,
    resolution::{self, Inputs, Resolution},
    settings::PullMode,
    template::{Lookups, TemplateError},
};
use worker_drivers::{
    Environment, Job, Owner, Program, RunKey, kubernetes::PULLED_BY_INIT_CONTAINER,
};

use crate::{
    journal::{NotStarted, Reporter},
    pull::{Code, Wish},
    services::Services,
    sources::Sources,
};

/// The worker, as far as a job depends on it.
pub(crate) struct Site<'a> {
    kind: DriverKind,
    worker: &'a str,
    /// Only Prefect Cloud knows workers by an id.
    worker_id: Option<String>,
    policy: Policy,
    pull_mode: PullMode,
    /// The lowest layer of the job's environment.
    settings: BTreeMap<String, String>,
}

/// A job that lacks only its code.
pub(crate) struct Resolved {
    /// Who tells the API how it goes.
    pub(crate) reporter: Reporter,
    /// Whether its output is shown (`stream_output`).
    pub(crate) shown: bool,
    pub(crate) deployment: Option<Deployment>,
    pub(crate) command: Option<String>,
    name: String,
    pub(crate) environment: Environment,
    labels: BTreeMap<String, String>,
    configuration: Map<String, Value>,
    /// Who is to get its code.
    pub(crate) wish: Wish,
}

/// What the API's objects are called, and all that names in templates may ask of them.
struct Ids {
    flow_run: String,
    flow: String,
    deployment: Option<String>,
    pool: String,
    flow_run_json: Value,
    flow_json: Value,
    no_variables: Map<String, Value>,
}

// === impl Site ===

impl<'a> Site<'a> {
    /// That of a worker at work.
    pub(crate) fn of(services: &'a Services) -> Self {
        Self::new(
            services.driver.kind(),
            (&services.identity.worker, &services.client),
            (services.policy(), services.puller.mode),
            &services.job_environment,
        )
    }

    /// That of a worker of this kind and name, on that API, with these rules.
    pub(crate) fn new(
        kind: DriverKind,
        (worker, client): (&'a str, &Client),
        (policy, pull_mode): (Policy, PullMode),
        job_environment: &BTreeMap<String, Secret>,
    ) -> Self {
        let settings = job_environment.iter();
        Self {
            kind,
            worker,
            worker_id: client.worker_id().map(|id| id.to_string()),
            policy,
            pull_mode,
            settings: settings
                .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                .collect(),
        }
    }

    /// Resolves a flow run's job as far as the lookups go.
    pub(crate) fn resolve(
        &self,
        sources: &Sources,
        lookups: &Lookups,
    ) -> Result<Resolution, TemplateError> {
        let ids = Ids::of(sources);
        let allowed = self.policy.allow_environment_placeholders;
        let environment = |name: &str| allowed.then(|| std::env::var(name).ok()).flatten();
        resolution::resolve(&self.inputs(sources, &ids, &environment), lookups)
    }

    /// Reads what the worker itself wants to know of a resolved job.
    pub(crate) fn judge(
        &self,
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
        if command.is_some() && !self.policy.allow_command {
            return Err(NotStarted::Failed(
                "a command of its own is not allowed by this worker's policy".to_owned(),
            ));
        }
        let wish = Wish::of(self.pull_mode, &variables).map_err(NotStarted::Failed)?;
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
            wish,
        })
    }

    /// What resolution is given. It knows nothing of the API's types.
    fn inputs<'b>(
        &'b self,
        sources: &'b Sources,
        ids: &'b Ids,
        environment: &'b (dyn Fn(&str) -> Option<String> + Sync),
    ) -> Inputs<'b> {
        let Sources {
            flow_run,
            deployment,
            flow,
            pool,
        } = sources;
        let named = |id: &'b str, name: &'b str| resolution::Named { id, name };
        Inputs {
            kind: self.kind,
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
                id: self.worker_id.as_deref(),
                name: self.worker,
            },
            settings: &self.settings,
            version: worker_api::REFERENCE_VERSION,
            environment,
        }
    }
}

// === impl Resolved ===

impl Resolved {
    /// The job, whose code is there.
    pub(crate) fn with_code(
        self,
        key: RunKey,
        owner: Owner,
        code: &Code,
    ) -> Result<Job, NotStarted> {
        let Self {
            reporter,
            shown: _,
            deployment,
            command,
            name,
            environment,
            labels,
            mut configuration,
            wish: _,
        } = self;
        let entrypoint = deployment.and_then(|deployment| deployment.entrypoint);
        let program = program(command, entrypoint, reporter, code)?;
        let workspace = code.directory();
        if *code == Code::Brought {
            configuration.insert(PULLED_BY_INIT_CONTAINER.to_owned(), true.into());
        }
        if let Some(directory) = &workspace {
            place(&mut configuration, directory, &program);
        }
        Ok(Job {
            key,
            owner,
            name,
            program,
            environment,
            labels,
            configuration,
            workspace,
        })
    }
}

// === impl Ids ===

impl Ids {
    fn of(sources: &Sources) -> Self {
        Self {
            flow_run: sources.flow_run.id.to_string(),
            flow: sources.flow.id.to_string(),
            deployment: sources.deployment.as_ref().map(|one| one.id.to_string()),
            pool: sources.pool.id.to_string(),
            flow_run_json: json(&sources.flow_run),
            flow_json: json(&sources.flow),
            no_variables: Map::new(),
        }
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
