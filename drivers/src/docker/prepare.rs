//! From a job to the container that the reference would ask for. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use worker_config::{
    python,
    slug::{self, slug},
};

use super::{
    DockerSettings, RegistryCredentials,
    image::PullPolicy,
    network,
    options::{CreateKwargs, Options},
    volume,
};
use crate::{
    command_line,
    driver::DriverError,
    fields::refused,
    job::{Environment, Job, Program},
};

/// A container to be made. What of it the engine takes is for the plan to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// The image.
    pub image: String,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
    /// How to log in where it is pulled from.
    pub registry_credentials: Option<RegistryCredentials>,
    /// The container's name; none: the engine's choice.
    pub name: Option<String>,
    /// What runs in it. None: what the caller makes of Prefect's engine.
    pub arguments: Option<Vec<String>>,
    /// Its environment.
    pub environment: Environment,
    /// Its labels, as Docker writes them.
    pub labels: BTreeMap<String, String>,
    /// The networks to be connected to.
    pub networks: Vec<String>,
    /// The network mode.
    pub network_mode: Option<String>,
    /// Names that are known in the container besides those of its networks. `host-gateway` is an address to engines from 20.10 on.
    pub extra_hosts: BTreeMap<String, String>,
    /// What is mounted, with absolute sources.
    pub volumes: Vec<String>,
    /// The memory limit as people write it.
    pub mem_limit: Option<String>,
    /// The limit of memory and swap together.
    pub memswap_limit: Option<String>,
    /// Whether the container may do what the host may.
    pub privileged: bool,
    /// Whether the engine removes the container when it ends.
    pub auto_remove: bool,
    /// What else people ask of the engine.
    pub create_kwargs: CreateKwargs,
}

/// The longest name: Docker knows no limit, URLs do.
const LONGEST_NAME: usize = 250;

/// The variable that says where the API is.
const API_URL: &str = "PREFECT_API_URL";

/// What a job configuration says in fields of its own. The same in `container_create_kwargs` is passed over, as the reference does.
const OWN_FIELDS: [&str; 16] = [
    "command",
    "env",
    "labels",
    "name",
    "image",
    "registry_credentials",
    "image_pull_policy",
    "networks",
    "network_mode",
    "auto_remove",
    "volumes",
    "stream_output",
    "mem_limit",
    "memswap_limit",
    "privileged",
    "container_create_kwargs",
];

/// Prepares the container of a job.
///
/// # Errors
/// [`DriverError::Invalid`].
pub fn prepare(job: &Job, settings: &DockerSettings) -> Result<Prepared, DriverError> {
    let Options {
        image,
        registry_credentials,
        image_pull_policy,
        networks,
        network_mode: chosen_mode,
        auto_remove,
        volumes,
        // It says who is shown the output, which is the worker's affair.
        stream_output: _,
        mem_limit,
        memswap_limit,
        privileged,
        container_create_kwargs,
    } = Options::read(&job.configuration)?;
    let image = image.unwrap_or_else(|| settings.default_image.clone());
    let pull_policy = image_pull_policy.map_or_else(|| PullPolicy::by_tag(&image), Ok)?;
    let mode = |api_url: Option<&str>| network::mode(chosen_mode.as_deref(), &networks, api_url);
    let environment = environment(job, settings, &mode);
    let api_url = environment.0.get(API_URL).map(String::as_str);
    let (extra_hosts, create_kwargs) = extras(container_create_kwargs.0, api_url)?;
    let network_mode = mode(api_url.or(settings.api_url.as_deref()));
    Ok(Prepared {
        pull_policy,
        image,
        registry_credentials,
        name: name(&job.name),
        arguments: arguments(&job.program)?,
        labels: labels(&job.labels, &settings.version),
        network_mode,
        extra_hosts,
        volumes: volumes
            .iter()
            .map(|one| volume::absolute(one, &settings.current_dir))
            .collect(),
        environment,
        networks,
        mem_limit,
        memswap_limit,
        privileged,
        auto_remove,
        create_kwargs,
    })
}

/// The job's environment, in which an API on this host is one on the container's host. A URL that somebody wrote is left alone.
fn environment(
    job: &Job,
    settings: &DockerSettings,
    mode: &impl Fn(Option<&str>) -> Option<String>,
) -> Environment {
    let mut environment = job.environment.clone();
    let configured = job
        .configuration
        .get("env")
        .and_then(|env| env.get(API_URL));
    let api_url = match configured {
        None => settings.api_url.clone(),
        Some(Value::Null) => None,
        Some(value) => Some(python::str(value)),
    };
    if configured.is_none()
        && mode(api_url.as_deref()).as_deref() != Some("host")
        && let Some(inherited) = environment.0.get_mut(API_URL)
    {
        *inherited = network::reachable(inherited);
    }
    environment
}

/// The name, fit for Docker.
fn name(name: &str) -> Option<String> {
    let rules = slug::Rules {
        longest: LONGEST_NAME,
        lowercase: false,
        keep: &['_', '.'],
    };
    let slug = slug(name, rules);
    let name = slug.trim_start_matches(['_', '-', '.']);
    (!name.is_empty()).then(|| name.to_owned())
}

fn arguments(program: &Program) -> Result<Option<Vec<String>>, DriverError> {
    let line = match program {
        Program::Engine { entrypoint: _ } => return Ok(None),
        Program::Execute => "prefect flow-run execute",
        Program::Command { line, engine: _ } => line,
    };
    match command_line::split(line) {
        Ok(arguments) => Ok(Some(arguments)),
        Err(error) => Err(refused("command", error.to_string())),
    }
}

/// Labels as Docker has them: the namespace of a key reversed and before it.
fn labels(labels: &BTreeMap<String, String>, version: &str) -> BTreeMap<String, String> {
    let docker_key = |key: &String| match key.split_once('/') {
        Some((namespace, key)) => {
            let reversed: Vec<&str> = namespace.split('.').rev().collect();
            format!("{}.{key}", reversed.join("."))
        }
        None => key.clone(),
    };
    let mut labels: BTreeMap<_, _> = labels
        .iter()
        .map(|(key, value)| (docker_key(key), value.clone()))
        .collect();
    labels.insert("io.prefect.version".to_owned(), version.to_owned());
    labels
}

/// Takes the extra hosts out of what people ask of the engine, and what has a field of its own.
fn extras(
    mut kwargs: Map<String, Value>,
    api_url: Option<&str>,
) -> Result<(BTreeMap<String, String>, CreateKwargs), DriverError> {
    const FIELD: &str = "container_create_kwargs";
    kwargs.retain(|name, _| !OWN_FIELDS.contains(&name.as_str()));
    for (name, instead) in [("environment", "env"), ("network", "networks")] {
        if kwargs.contains_key(name) {
            return Err(refused(
                &format!("{FIELD}.{name}"),
                format!("is said with '{instead}' beside it"),
            ));
        }
    }
    let mut hosts: BTreeMap<_, _> = network::host_entry(api_url).into_iter().collect();
    match kwargs.shift_remove("extra_hosts") {
        Some(Value::Object(given)) => {
            hosts.extend(
                given
                    .iter()
                    .map(|(host, address)| (host.clone(), python::str(address))),
            );
        }
        Some(Value::Array(given)) => {
            let entries = given.iter().filter_map(Value::as_str);
            let split = entries.filter_map(|entry| entry.split_once(':'));
            hosts.extend(split.map(|(host, address)| (host.to_owned(), address.to_owned())));
        }
        None | Some(_) => {}
    }
    Ok((hosts, CreateKwargs(kwargs)))
}

#[cfg(test)]
mod tests;
