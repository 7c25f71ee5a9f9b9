//! From a job to the container that the engine will be asked for. Pure.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
};

use bollard::models::ContainerCreateBody;
use serde_json::{Map, Value, json};
use worker_config::policy::Policy;

use super::{
    DockerSettings, EnvironmentMode, RegistryCredentials,
    image::{self, PullPolicy},
    kwargs,
    prepare::{Prepared, prepare},
    size,
};
use crate::{
    driver::DriverError,
    fields::refused,
    job::{Environment, Job, Owner, Program, RunKey},
};

/// What will be asked for, for one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The attempt.
    pub key: RunKey,
    /// Whose it is.
    pub owner: Owner,
    /// The name that is tried first; none: the engine's choice.
    pub name: Option<String>,
    /// The image's platform, where somebody chose one.
    pub platform: Option<String>,
    /// The image, with its tag.
    pub image: String,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
    /// How to log in where it is pulled from.
    pub registry_credentials: Option<RegistryCredentials>,
    /// The container.
    pub body: Body,
    /// The networks it is connected to besides its first.
    pub more_networks: Vec<String>,
    /// Its environment, where that is not to be a part of the container.
    pub hidden_environment: Option<Environment>,
    /// A directory of this machine that is copied into it before it starts.
    pub workspace: Option<PathBuf>,
}

/// A container as the engine is asked for it. Printing shows nothing that may be a credential.
#[derive(Clone, PartialEq)]
pub struct Body(pub ContainerCreateBody);

/// The label that says whose a container is.
pub(super) const OWNER_LABEL: &str = "io.prefect-worker.owner";
/// The label that says for which attempt it is.
pub(super) const JOB_LABEL: &str = "io.prefect-worker.job";
/// The label that says what runs in it, as far as it matters to how it is stopped.
pub(super) const PROGRAM_LABEL: &str = "io.prefect-worker.program";

/// Prefect's own runner: it sees by itself that a flow run is to be cancelled, and runs its hooks.
pub(super) const RUNNER: &str = "runner";

/// Prefect's engine alone: it is told by a signal that it is cancelled.
pub(super) const ENGINE_ALONE: &str = "engine";
/// The signal by which it is. `engine.py` has the same number.
pub(super) const CANCEL_SIGNAL: &str = "39";

/// Starts Prefect's engine, with somebody who tells it that it is cancelled.
const ENGINE: &str = include_str!("engine.py");

/// Where a workspace is inside a container: where Prefect's images have the code of flows.
pub(super) const WORKSPACE: &str = "/opt/prefect/workspace";

/// Plans one attempt.
///
/// # Errors
/// [`DriverError::Invalid`] and [`DriverError::Denied`].
pub fn plan(
    job: &Job,
    policy: &Policy,
    settings: &DockerSettings,
    mode: EnvironmentMode,
) -> Result<Plan, DriverError> {
    if matches!(job.program, Program::Command { .. }) && !policy.allow_command {
        return Err(DriverError::Denied {
            what: "command".to_owned(),
            reason: "the operator of this worker lets no job bring a command of its own".to_owned(),
        });
    }
    let mut prepared = prepare(job, settings)?;
    let extras = kwargs::read(&prepared.create_kwargs.0)?;
    let command = match (&job.program, prepared.arguments.take()) {
        (Program::Engine { entrypoint }, _) => {
            let has_workspace = job.workspace.is_some();
            run_engine(&mut prepared.environment, entrypoint, has_workspace);
            words(&["python", "-c", ENGINE])
        }
        (_, Some(arguments)) if !arguments.is_empty() => arguments,
        (_, _) => return Err(refused("command", "it is blank")),
    };
    let mut container = container(job, &prepared, &command);
    container.extend(extras.container);
    if container.get("OpenStdin") == Some(&Value::Bool(true)) {
        // As docker-py does.
        container.insert("AttachStdin".to_owned(), true.into());
        container.insert("StdinOnce".to_owned(), true.into());
    }
    if mode == EnvironmentMode::Container {
        container.insert("Env".to_owned(), assignments(&prepared.environment));
    }
    let mut host = host(&prepared)?;
    host.extend(extras.host);
    let (bound, workspace) = if settings.bind_workspace {
        (job.workspace.as_deref(), None)
    } else {
        (None, job.workspace.clone())
    };
    if let Some(bound) = bound {
        bind(&mut host, bound);
    }
    container.insert("HostConfig".to_owned(), host.into());
    // What people wrote was checked field by field; an error here would quote a value.
    let body = serde_json::from_value(container.into())
        .map_err(|_| refused("container_create_kwargs", "does not fit together"))?;
    Ok(Plan {
        key: job.key,
        owner: job.owner.clone(),
        name: prepared.name,
        platform: extras.platform,
        image: image::with_tag(&prepared.image),
        pull_policy: prepared.pull_policy,
        registry_credentials: prepared.registry_credentials,
        body: Body(body),
        more_networks: prepared.networks.into_iter().skip(1).collect(),
        hidden_environment: (mode == EnvironmentMode::File).then_some(prepared.environment),
        workspace,
    })
}

/// Mounts a workspace where it would be copied to, besides what people mount.
fn bind(host: &mut Map<String, Value>, workspace: &Path) {
    let mount = json!({"Type": "bind", "Source": workspace, "Target": WORKSPACE});
    match host.get_mut("Mounts").and_then(Value::as_array_mut) {
        Some(mounts) => mounts.push(mount),
        None => {
            host.insert("Mounts".to_owned(), json!([mount]));
        }
    }
}

/// The container, without what belongs to its host.
fn container(job: &Job, prepared: &Prepared, command: &[String]) -> Map<String, Value> {
    let mut container = always_said();
    let labels = prepared.labels.clone().into_iter();
    let labels: HashMap<String, String> = labels.chain(own_labels(job)).collect();
    container.insert("Labels".to_owned(), json!(labels));
    container.insert("Image".to_owned(), json!(prepared.image));
    container.insert("Cmd".to_owned(), json!(command));
    if job.workspace.is_some() {
        container.insert("WorkingDir".to_owned(), json!(WORKSPACE));
    }
    if !prepared.volumes.is_empty() {
        let targets = prepared.volumes.iter().map(|one| (target(one), json!({})));
        let targets: Map<_, _> = targets.collect();
        container.insert("Volumes".to_owned(), targets.into());
    }
    container
}

/// The container's `HostConfig`.
fn host(prepared: &Prepared) -> Result<Map<String, Value>, DriverError> {
    let mut host = Map::new();
    if !prepared.volumes.is_empty() {
        host.insert("Binds".to_owned(), json!(prepared.volumes));
    }
    if let Some(limit) = &prepared.mem_limit {
        host.insert(
            "Memory".to_owned(),
            size::bytes_in("mem_limit", limit)?.into(),
        );
    }
    if let Some(limit) = &prepared.memswap_limit {
        let limit = size::bytes_in("memswap_limit", limit)?;
        host.insert("MemorySwap".to_owned(), limit.into());
    }
    if prepared.privileged {
        host.insert("Privileged".to_owned(), true.into());
    }
    // The first network is the container's own; the reference lets it win over a mode.
    if let Some(mode) = prepared.networks.first().or(prepared.network_mode.as_ref()) {
        host.insert("NetworkMode".to_owned(), json!(mode));
    }
    if !prepared.extra_hosts.is_empty() {
        let entries = prepared.extra_hosts.iter();
        let entries = entries.map(|(name, address)| format!("{name}:{address}"));
        host.insert("ExtraHosts".to_owned(), entries.collect());
    }
    // `auto_remove` is not passed on: we remove a container when its end and its output are safe, and always do. The engine would not wait for that.
    Ok(host)
}

// === impl Plan ===

impl Plan {
    /// What the engine will be asked for, as a document for people.
    pub(crate) fn request(&self) -> Value {
        let mut container = json!(self.body.0);
        // In an order that is the same each time.
        if let Some(labels) = container.get_mut("Labels").and_then(Value::as_object_mut) {
            labels.sort_keys();
        }
        let mut request = json!({
            "name": self.name,
            "image": self.image,
            "image_pull_policy": format!("{:?}", self.pull_policy),
            "container": container,
        });
        let more = [
            ("platform", json!(self.platform)),
            ("more_networks", json!(self.more_networks)),
            (
                "environment_in_a_file",
                json!(self.hidden_environment.as_ref().map(|hidden| &hidden.0)),
            ),
            ("code_copied_from", json!(self.workspace)),
        ];
        let said = more
            .into_iter()
            .filter(|(_, value)| !value.is_null() && *value != json!([]));
        for (name, value) in said {
            request[name] = value;
        }
        request
    }
}

// === impl Body ===

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |one: &String| one.split('=').next().map(str::to_owned);
        let variables = self.0.env.iter().flatten().filter_map(name);
        f.debug_struct("Body")
            .field("image", &self.0.image)
            .field("env", &variables.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Prefect's engine without a runner before it: it finds the flow by this, and runs the flow's hooks itself.
fn run_engine(environment: &mut Environment, entrypoint: &str, has_workspace: bool) {
    let variables = &mut environment.0;
    variables.insert("PREFECT__FLOW_ENTRYPOINT".to_owned(), entrypoint.to_owned());
    let hooks = "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS";
    variables.insert(hooks.to_owned(), "true".to_owned());
    if has_workspace {
        let path = match variables.get("PYTHONPATH").filter(|path| !path.is_empty()) {
            Some(before) => format!("{WORKSPACE}:{before}"),
            None => WORKSPACE.to_owned(),
        };
        variables.insert("PYTHONPATH".to_owned(), path);
    }
}

fn own_labels(job: &Job) -> HashMap<String, String> {
    let runs = match job.program {
        Program::Execute | Program::Command { engine: true, .. } => RUNNER,
        Program::Engine { .. } => ENGINE_ALONE,
        Program::Command { engine: false, .. } => "command",
    };
    [
        (OWNER_LABEL, job.owner.0.clone()),
        (JOB_LABEL, job.key.to_string()),
        (PROGRAM_LABEL, runs.to_owned()),
    ]
    .into_iter()
    .map(|(label, value)| (label.to_owned(), value))
    .collect()
}

/// What docker-py says of every container.
fn always_said() -> Map<String, Value> {
    let switches = [
        ("Tty", false),
        ("OpenStdin", false),
        ("StdinOnce", false),
        ("AttachStdin", false),
        ("AttachStdout", true),
        ("AttachStderr", true),
        ("NetworkDisabled", false),
    ];
    switches
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

fn assignments(environment: &Environment) -> Value {
    let assigned = environment.0.iter();
    assigned
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// Where in the container a mount is.
fn target(volume: &str) -> String {
    let mut parts = volume.splitn(3, ':');
    let first = parts.next().unwrap_or_default();
    parts.next().unwrap_or(first).to_owned()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests;
