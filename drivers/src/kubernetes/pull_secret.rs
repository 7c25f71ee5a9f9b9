//! The login for the registry of a job's image: from a block to a Secret that the pod names (`imagePullSecrets`). Pure.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    manifest::{add, pod_template},
    secret::SecretValues,
};
use crate::{docker::RegistryCredentials, driver::DriverError, fields::refused};

/// The type of a Secret that a pod may name.
pub(super) const TYPE: &str = "kubernetes.io/dockerconfigjson";

/// The one key that such a Secret has.
const KEY: &str = ".dockerconfigjson";

/// The names of Docker Hub, and the one by which nodes know a login there.
const HUB: [&str; 4] = [
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
];
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What the Secret has to hold.
pub(super) fn values(credentials: &RegistryCredentials) -> SecretValues {
    let RegistryCredentials {
        username,
        password,
        registry_url,
        // Each pull of a node logs in.
        reauth: _,
    } = credentials;
    let password = password.expose();
    let login = json!({
        "auth": STANDARD.encode(format!("{username}:{password}")),
        "password": password,
        "username": username,
    });
    let auths = Map::from_iter([(key(registry_url), login)]);
    let config = json!({ "auths": auths }).to_string();
    SecretValues(BTreeMap::from([(KEY.to_owned(), config)]))
}

/// Has the pod log in with the Secret of this name, beside those that it names already.
pub(super) fn name_in(manifest: &mut Map<String, Value>, secret: &str) -> Result<(), DriverError> {
    let pod = pod_template(manifest)?.get_mut("spec");
    let Some(Value::Object(pod)) = pod else {
        return Err(refused(
            "job_manifest.spec.template.spec",
            "must be an object",
        ));
    };
    // A template with a placeholder for a list that nobody gave has null here.
    if pod.get("imagePullSecrets") == Some(&Value::Null) {
        pod.remove("imagePullSecrets");
    }
    add(pod, "imagePullSecrets", json!({ "name": secret }))
}

/// A registry, as nodes look it up.
fn key(registry: &str) -> String {
    let rest = registry
        .split_once("://")
        .map_or(registry, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    if HUB.contains(&host) {
        HUB_KEY.to_owned()
    } else {
        registry.to_owned()
    }
}

#[cfg(test)]
mod tests;
