//! From a job to the manifest that the reference would submit. Pure.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};
use worker_config::{python, template::has_placeholder};

use super::{
    KubernetesSettings, environment,
    manifest::{self, main_container, metadata, pod_template},
    names,
    options::{ClusterConfig, Options},
};
use crate::{
    command_line,
    driver::DriverError,
    fields::{invalid, refused},
    job::Job,
};

/// A job to be made.
#[derive(Clone, PartialEq)]
pub struct Prepared {
    /// The manifest.
    pub manifest: Map<String, Value>,
    /// Where it is made.
    pub namespace: String,
    /// The cluster, where it is not the worker's own.
    pub cluster: Option<ClusterConfig>,
}

/// The arguments of jobs that have none: Prefect pulls the code and runs the flow.
const DEFAULT_ARGUMENTS: [&str; 3] = ["prefect", "flow-run", "execute"];

/// Prepares the manifest of a job.
///
/// # Errors
/// [`DriverError::Invalid`].
pub fn prepare(job: &Job, settings: &KubernetesSettings) -> Result<Prepared, DriverError> {
    let Options {
        annotations,
        namespace,
        job_manifest: mut manifest,
        cluster_config,
        // The reference has nothing like it.
        registry_credentials: _,
        // What they limit, and who is shown the output, is for who watches the job.
        job_watch_timeout_seconds: _,
        pod_watch_timeout_seconds: _,
        stream_output: _,
    } = Options::read(&job.configuration)?;
    manifest::check(&mut manifest, &namespace)?;
    let backoff_limit = manifest
        .get("spec")
        .and_then(|spec| spec.get("backoffLimit"));
    let starts_one_pod = backoff_limit.is_some_and(is_zero);
    let configured = job.configuration.get("env");
    let env = environment::list(&job.environment.0, configured, starts_one_pod)?;
    let container = main_container(&mut manifest)?;
    let env = environment::before(env, container.get("env"))?;
    container.insert("env".to_owned(), env);
    container
        .entry("image")
        .or_insert_with(|| settings.default_image.as_str().into());
    let arguments = arguments(container.get("args"))?;
    container.insert("args".to_owned(), arguments);
    name(metadata(&mut manifest)?, &job.name);
    labels(&mut manifest, &job.labels)?;
    annotate(&mut manifest, &annotations)?;
    Ok(Prepared {
        manifest,
        namespace,
        cluster: cluster_config,
    })
}

impl fmt::Debug for Prepared {
    /// Without what may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("namespace", &self.namespace)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// Whether Python takes a value for equal to 0.
fn is_zero(value: &Value) -> bool {
    *value == Value::Bool(false) || value.as_f64() == Some(0.0)
}

fn arguments(args: Option<&Value>) -> Result<Value, DriverError> {
    const FIELD: &str = "job_manifest: args";
    match args {
        None | Some(Value::Null) => Ok(DEFAULT_ARGUMENTS.into_iter().collect()),
        Some(Value::String(line)) => match command_line::split(line) {
            Ok(arguments) => Ok(arguments.into()),
            Err(error) => Err(refused("command", error.to_string())),
        },
        Some(list @ Value::Array(_)) => Ok(list.clone()),
        Some(other) => Err(invalid(FIELD, "a text or a list", other)),
    }
}

/// Sets the beginning of the job's name, unless the template says one.
fn name(metadata: &mut Map<String, Value>, name: &str) {
    let said = metadata.get("generateName").unwrap_or(&Value::Null);
    let open = !python::is_truthy(said) || has_placeholder(said) || said == "-" || said == "None-";
    if open {
        let name = names::generate_name(name);
        metadata.insert("generateName".to_owned(), name.into());
    }
}

/// Lays the job's labels over those of the manifest and of its pod, all made legal.
fn labels(
    manifest: &mut Map<String, Value>,
    labels: &BTreeMap<String, String>,
) -> Result<(), DriverError> {
    let over = |metadata: &mut Map<String, Value>| {
        let mut legal = Map::new();
        for (key, value) in fields(metadata, "labels")? {
            let Value::String(value) = value else {
                return Err(invalid(
                    &format!("job_manifest: label {key}"),
                    "a text",
                    &value,
                ));
            };
            legal.insert(names::label_key(&key), names::label_value(&value).into());
        }
        for (key, value) in labels {
            legal.insert(names::label_key(key), names::label_value(value).into());
        }
        metadata.insert("labels".to_owned(), Value::Object(legal));
        Ok(())
    };
    over(metadata(manifest)?)?;
    over(pod_metadata(manifest)?)
}

/// Lays the job's annotations over those of the manifest, with legal keys, and these over those of its pod.
fn annotate(
    manifest: &mut Map<String, Value>,
    annotations: &BTreeMap<String, String>,
) -> Result<(), DriverError> {
    let metadata = metadata(manifest)?;
    let mut all = fields(metadata, "annotations")?;
    all.extend(
        annotations
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().into())),
    );
    let all: Map<String, Value> = all
        .into_iter()
        .map(|(key, value)| (names::label_key(&key), value))
        .collect();
    metadata.insert("annotations".to_owned(), Value::Object(all.clone()));
    if all.is_empty() {
        return Ok(());
    }
    let pod = pod_metadata(manifest)?;
    let mut pods = fields(pod, "annotations")?;
    pods.extend(all);
    pod.insert("annotations".to_owned(), Value::Object(pods));
    Ok(())
}

fn pod_metadata(manifest: &mut Map<String, Value>) -> Result<&mut Map<String, Value>, DriverError> {
    let template = pod_template(manifest)?;
    let metadata = template
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    metadata
        .as_object_mut()
        .ok_or_else(|| refused("job_manifest.spec.template.metadata", "must be an object"))
}

/// A part of the metadata that is an object, or nothing.
fn fields(metadata: &Map<String, Value>, name: &str) -> Result<Map<String, Value>, DriverError> {
    match metadata.get(name) {
        None => Ok(Map::new()),
        Some(Value::Object(fields)) => Ok(fields.clone()),
        Some(other) => Err(invalid(
            &format!("job_manifest: {name}"),
            "an object",
            other,
        )),
    }
}

#[cfg(test)]
mod tests;
