//! From an entry of a `prefect.yaml` to a deployment on the API: build steps here, then one upsert.

mod shell;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use worker_api::{ApiError, Client, types::Deployment};
use worker_config::{
    manifest::{DeploymentEntry, Manifest},
    template::apply_values,
};

pub(crate) use shell::ShellError;

/// Why an entry could not be deployed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    /// The file has no deployments.
    #[error("{} has no deployments", .0.display())]
    NoDeployments(PathBuf),
    /// More than one, and none was named.
    #[error("{} has more than one deployment; name one of {names}", .file.display())]
    WhichOne {
        /// The file.
        file: PathBuf,
        /// Their names.
        names: String,
    },
    /// None of that name.
    #[error("{} has no deployment '{name}'; it has {names}", .file.display())]
    NoSuchDeployment {
        /// The file.
        file: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        names: String,
    },
    /// A build step that cannot be run.
    #[error("build step {0} is not one this program runs; it runs run_shell_script")]
    UnknownBuildStep(String),
    /// A build step that failed.
    #[error("build step failed")]
    Build(#[from] ShellError),
    /// The API did not take it.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// The entry that is meant: the named one, or the only one.
pub(crate) fn choose<'a>(
    manifest: &'a Manifest,
    file: &Path,
    name: Option<&str>,
) -> Result<&'a DeploymentEntry, DeployError> {
    let entries = &manifest.deployments;
    let names = || entries.iter().map(title).collect::<Vec<_>>().join(", ");
    match (name, entries.as_slice()) {
        (_, []) => Err(DeployError::NoDeployments(file.to_owned())),
        (None, [one]) => Ok(one),
        (None, _) => Err(DeployError::WhichOne {
            file: file.to_owned(),
            names: names(),
        }),
        (Some(name), all) => {
            all.iter()
                .find(|one| title(one) == name)
                .ok_or_else(|| DeployError::NoSuchDeployment {
                    file: file.to_owned(),
                    name: name.to_owned(),
                    names: names(),
                })
        }
    }
}

/// Runs the entry's build steps in `base`, and registers it for a work pool.
pub(crate) async fn deploy(
    client: &Client,
    manifest: &Manifest,
    entry: &DeploymentEntry,
    (base, pool): (&Path, &str),
) -> Result<Deployment, DeployError> {
    let outputs = build(manifest, entry, base).await?;
    let flow = client.create_flow(&flow_name(entry)).await?;
    let pull = manifest
        .pull_steps(entry)
        .map(|steps| bake(&Value::from(steps.to_vec()), &outputs));
    let work_pool = entry.work_pool.as_ref();
    let request = json!({
        "name": title(entry),
        "flow_id": flow.id,
        "entrypoint": entry.entrypoint,
        "path": base,
        "version": entry.version,
        "description": entry.description,
        "tags": entry.tags,
        "parameters": entry.parameters,
        "parameter_openapi_schema": {"type": "object", "properties": {}},
        "enforce_parameter_schema": false,
        "pull_steps": pull.unwrap_or_else(|| json!([])),
        "work_pool_name": pool,
        "job_variables": work_pool.map_or_else(|| json!({}), |one| bake(&Value::from(one.job_variables.clone()), &outputs)),
    });
    Ok(client.create_deployment(&request).await?)
}

async fn build(
    manifest: &Manifest,
    entry: &DeploymentEntry,
    base: &Path,
) -> Result<Map<String, Value>, DeployError> {
    let mut outputs = Map::new();
    for step in manifest.build_steps(entry).into_iter().flatten() {
        for (name, inputs) in step {
            if !name.ends_with(".run_shell_script") {
                return Err(DeployError::UnknownBuildStep(name.clone()));
            }
            let inputs = bake(inputs, &outputs);
            let empty = Map::new();
            let inputs = inputs.as_object().unwrap_or(&empty);
            tracing::info!("running build step {name}");
            let output = shell::run(inputs, base).await?;
            if let Some(id) = inputs.get("id").and_then(Value::as_str) {
                outputs.insert(id.to_owned(), output.clone());
            }
            // As in the reference, outputs are also known without their step's id, the latest winning.
            outputs.extend(output.as_object().cloned().unwrap_or_default());
        }
    }
    Ok(outputs)
}

/// Puts the outputs of build steps in; what they do not know is left for the run.
fn bake(value: &Value, outputs: &Map<String, Value>) -> Value {
    match value {
        Value::String(text) if names_output(text, outputs) => {
            apply_values(value, outputs, &|name| Some(format!("{{{{ ${name} }}}}")))
                .unwrap_or_else(|| value.clone())
        }
        Value::Array(items) => items.iter().map(|item| bake(item, outputs)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| (key.clone(), bake(field, outputs)))
            .collect(),
        other => other.clone(),
    }
}

fn names_output(text: &str, outputs: &Map<String, Value>) -> bool {
    text.contains("{{") && outputs.keys().any(|name| text.contains(name.as_str()))
}

fn title(entry: &DeploymentEntry) -> String {
    entry.name.clone().unwrap_or_else(|| "default".to_owned())
}

/// A flow's name without looking into its code: that of the function, as the reference spells it; a plain command's deployment names its flow.
fn flow_name(entry: &DeploymentEntry) -> String {
    match &entry.entrypoint {
        Some(entrypoint) => {
            let function = entrypoint.rsplit([':', '.']).next().unwrap_or(entrypoint);
            function.replace('_', "-")
        }
        None => title(entry),
    }
}
