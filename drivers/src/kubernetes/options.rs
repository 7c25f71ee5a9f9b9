//! The job configuration of a Kubernetes pool, made typed.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use crate::{
    docker::RegistryCredentials,
    driver::DriverError,
    fields::{invalid, object, switch, text, texts_by_name, whole_number},
};

/// What a Kubernetes pool's job configuration says, apart from what the worker has prepared from it already.
#[derive(Clone, PartialEq)]
pub struct Options {
    /// Annotations of the job and its pod.
    pub annotations: BTreeMap<String, String>,
    /// Where the job is made.
    pub namespace: String,
    /// The job, as people have written it.
    pub job_manifest: Map<String, Value>,
    /// The cluster, where it is not the worker's own.
    pub cluster_config: Option<ClusterConfig>,
    /// How nodes log in where the job's images are pulled from.
    pub registry_credentials: Option<RegistryCredentials>,
    /// Seconds the job may take.
    pub job_watch_timeout_seconds: Option<i64>,
    /// Seconds its pod may take to start.
    pub pod_watch_timeout_seconds: i64,
    /// Whether the output is shown beside the worker's own.
    pub stream_output: bool,
}

/// A cluster and how to get there. Printing shows only the name.
#[derive(Clone, PartialEq)]
pub struct ClusterConfig {
    /// A kubeconfig: an object, or the text of a YAML file.
    pub config: Value,
    /// Which of its contexts.
    pub context_name: String,
}

/// How long a pod may take to start where nobody says (3.8.8).
const POD_WATCH_TIMEOUT: i64 = 60;

// === impl Options ===

impl Options {
    /// Reads a configuration. The first field that is wrong is the error.
    ///
    /// # Errors
    /// [`DriverError::Invalid`].
    pub fn read(configuration: &Map<String, Value>) -> Result<Self, DriverError> {
        // These four reach the driver prepared, as parts of the job. Here they only have to be what they should.
        for field in ["command", "name"] {
            text(configuration, field)?;
        }
        if !configuration.get("env").is_some_and(is_list_of_objects) {
            object(configuration, "env", |_| true, "values")?;
        }
        texts_by_name(configuration, "labels")?;
        Ok(Self {
            annotations: texts_by_name(configuration, "annotations")?,
            namespace: namespace(configuration)?,
            job_manifest: job_manifest(configuration)?,
            cluster_config: ClusterConfig::read(configuration)?,
            registry_credentials: RegistryCredentials::read(configuration)?,
            job_watch_timeout_seconds: whole_number(configuration, "job_watch_timeout_seconds")?,
            pod_watch_timeout_seconds: pod_watch_timeout(configuration)?,
            stream_output: switch(configuration, "stream_output", true)?,
        })
    }
}

impl fmt::Debug for Options {
    /// Without what may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("namespace", &self.namespace)
            .field("cluster_config", &self.cluster_config)
            .finish_non_exhaustive()
    }
}

// === impl ClusterConfig ===

impl ClusterConfig {
    fn read(configuration: &Map<String, Value>) -> Result<Option<Self>, DriverError> {
        const FIELD: &str = "cluster_config";
        let fields = match configuration.get(FIELD) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(fields)) => fields,
            Some(other) => return Err(invalid(FIELD, "a cluster's configuration or null", other)),
        };
        let wrong = |name: &str, expected: &str| {
            let found = fields.get(name).unwrap_or(&Value::Null);
            invalid(&format!("{FIELD}.{name}"), expected, found)
        };
        let config = match fields.get("config") {
            Some(config @ (Value::Object(_) | Value::String(_))) => config.clone(),
            _ => return Err(wrong("config", "a kubeconfig")),
        };
        let Some(Value::String(context_name)) = fields.get("context_name") else {
            return Err(wrong("context_name", "a text"));
        };
        Ok(Some(Self {
            config,
            context_name: context_name.clone(),
        }))
    }
}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterConfig")
            .field("context_name", &self.context_name)
            .finish_non_exhaustive()
    }
}

fn is_list_of_objects(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|entries| entries.iter().all(Value::is_object))
}

fn namespace(configuration: &Map<String, Value>) -> Result<String, DriverError> {
    match configuration.get("namespace") {
        None => Ok("default".to_owned()),
        Some(Value::String(namespace)) => Ok(namespace.clone()),
        Some(other) => Err(invalid("namespace", "a text", other)),
    }
}

fn job_manifest(configuration: &Map<String, Value>) -> Result<Map<String, Value>, DriverError> {
    match configuration.get("job_manifest") {
        Some(Value::Object(manifest)) => Ok(manifest.clone()),
        other => Err(invalid(
            "job_manifest",
            "an object",
            other.unwrap_or(&Value::Null),
        )),
    }
}

/// Unlike the other limit it may not be null.
fn pod_watch_timeout(configuration: &Map<String, Value>) -> Result<i64, DriverError> {
    const FIELD: &str = "pod_watch_timeout_seconds";
    match configuration.get(FIELD) {
        None => Ok(POD_WATCH_TIMEOUT),
        Some(value) => {
            let number = whole_number(configuration, FIELD)?;
            number.ok_or_else(|| invalid(FIELD, "a whole number", value))
        }
    }
}
