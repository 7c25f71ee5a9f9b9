//! The job configuration of a Docker pool, made typed.

use std::fmt;

use serde_json::{Map, Value};
use worker_config::Secret;

use super::{image::PullPolicy, volume};
use crate::{
    driver::DriverError,
    fields::{invalid, object, switch, text, texts, texts_by_name},
};

/// What a Docker pool's job configuration says, apart from what the worker has prepared from it already.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The image; else the worker's default.
    pub image: Option<String>,
    /// How to log in where the image is pulled from.
    pub registry_credentials: Option<RegistryCredentials>,
    /// When to pull; else by the image's tag.
    pub image_pull_policy: Option<PullPolicy>,
    /// The networks to be connected to.
    pub networks: Vec<String>,
    /// The network mode; else chosen so that the API can be reached.
    pub network_mode: Option<String>,
    /// Whether the engine removes the container when it ends.
    pub auto_remove: bool,
    /// What is mounted, each checked to be a mount.
    pub volumes: Vec<String>,
    /// Whether the output is shown beside the worker's own.
    pub stream_output: bool,
    /// The memory limit as people write it: `128m`.
    pub mem_limit: Option<String>,
    /// The limit of memory and swap together.
    pub memswap_limit: Option<String>,
    /// Whether the container may do what the host may.
    pub privileged: bool,
    /// Whatever else people ask of the engine, in the words of docker-py's `containers.create`. Printing shows nothing of it.
    pub container_create_kwargs: CreateKwargs,
}

/// A user at a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryCredentials {
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret,
    /// The registry, with or without a scheme.
    pub registry_url: String,
    /// Whether to log in although a login is known.
    pub reauth: bool,
}

/// Arguments of docker-py. Printing shows names only: any value may be a credential.
#[derive(Clone, Default, PartialEq)]
pub struct CreateKwargs(pub Map<String, Value>);

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
        object(configuration, "env", |_| true, "values")?;
        texts_by_name(configuration, "labels")?;
        let owned = |field| Ok(text(configuration, field)?.map(str::to_owned));
        let volumes = texts(configuration, "volumes")?;
        Ok(Self {
            image: image(configuration)?,
            registry_credentials: RegistryCredentials::read(configuration)?,
            image_pull_policy: pull_policy(configuration)?,
            networks: texts(configuration, "networks")?,
            network_mode: owned("network_mode")?,
            auto_remove: switch(configuration, "auto_remove", false)?,
            volumes: volumes
                .iter()
                .map(|one| volume::check(one))
                .collect::<Result<_, _>>()?,
            stream_output: switch(configuration, "stream_output", true)?,
            mem_limit: owned("mem_limit")?,
            memswap_limit: owned("memswap_limit")?,
            privileged: switch(configuration, "privileged", false)?,
            container_create_kwargs: CreateKwargs::read(configuration)?,
        })
    }
}

// === impl RegistryCredentials ===

impl RegistryCredentials {
    /// Reads the part of a job configuration that says how to log in at a registry: a `docker-registry-credentials` block, or the same fields.
    pub(crate) fn read(configuration: &Map<String, Value>) -> Result<Option<Self>, DriverError> {
        const FIELD: &str = "registry_credentials";
        let fields = match configuration.get(FIELD) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(fields)) => fields,
            Some(other) => return Err(invalid(FIELD, "registry credentials or null", other)),
        };
        let must = |name: &str| match fields.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            other => {
                let found = other.unwrap_or(&Value::Null);
                Err(invalid(&format!("{FIELD}.{name}"), "a text", found))
            }
        };
        Ok(Some(Self {
            username: must("username")?,
            password: Secret::new(must("password")?),
            registry_url: must("registry_url")?,
            reauth: switch(fields, "reauth", true)?,
        }))
    }
}

// === impl CreateKwargs ===

impl CreateKwargs {
    fn read(configuration: &Map<String, Value>) -> Result<Self, DriverError> {
        const FIELD: &str = "container_create_kwargs";
        match configuration.get(FIELD) {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(Value::Object(kwargs)) => Ok(Self(kwargs.clone())),
            Some(other) => Err(invalid(FIELD, "an object or null", other)),
        }
    }
}

impl fmt::Debug for CreateKwargs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Unlike other texts an image may not be null: only leaving it out asks for the default.
fn image(configuration: &Map<String, Value>) -> Result<Option<String>, DriverError> {
    match configuration.get("image") {
        Some(null @ Value::Null) => Err(invalid("image", "a text", null)),
        _ => Ok(text(configuration, "image")?
            .filter(|image| !image.is_empty())
            .map(str::to_owned)),
    }
}

fn pull_policy(configuration: &Map<String, Value>) -> Result<Option<PullPolicy>, DriverError> {
    const FIELD: &str = "image_pull_policy";
    let Some(spelled) = text(configuration, FIELD)? else {
        return Ok(None);
    };
    match PullPolicy::of(spelled) {
        Some(policy) => Ok(Some(policy)),
        None => Err(invalid(
            FIELD,
            "IfNotPresent, Always, IfPossible, Never or null",
            &Value::from(spelled),
        )),
    }
}
