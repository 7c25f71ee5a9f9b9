//! What is known of registries: the credentials of the job, else those of the Docker command line's configuration and its helpers.

use std::{process::Stdio, sync::Arc, time::Duration};

use base64::Engine as _;
use bollard::auth::DockerCredentials;
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{RegistryCredentials, Shared, connection, image, plan::Plan};
use crate::driver::DriverError;

/// How long a credential helper may take. One that asks a person would never answer.
const HELPER_LIMIT: Duration = Duration::from_secs(30);

/// The user name that a helper gives when its secret is a token.
const TOKEN: &str = "<token>";

/// The name under which the Docker command line keeps credentials for Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The credentials for pulling the image of a plan. Only asked for when there is something to pull.
pub(super) async fn credentials(
    shared: &Arc<Shared>,
    plan: &Plan,
) -> Result<Option<DockerCredentials>, DriverError> {
    let registry = image::registry(&plan.image);
    if let Some(given) = &plan.registry_credentials {
        if host(&given.registry_url) == host(registry) {
            return Ok(Some(of_job(given)));
        }
        tracing::warn!(
            image = plan.image,
            registry = given.registry_url,
            "the registry credentials of the job are for another registry than its image's, and are not used"
        );
    }
    of_configuration(shared, registry).await
}

/// The credentials with which an image would be pulled that no job speaks of.
pub(super) async fn of_image(
    shared: &Arc<Shared>,
    image: &str,
) -> Result<Option<DockerCredentials>, DriverError> {
    of_configuration(shared, image::registry(image)).await
}

fn of_job(given: &RegistryCredentials) -> DockerCredentials {
    DockerCredentials {
        username: Some(given.username.clone()),
        password: Some(given.password.expose().to_owned()),
        serveraddress: Some(given.registry_url.clone()),
        ..DockerCredentials::default()
    }
}

/// A registry's host and port, whatever is written around it. Docker Hub has several names.
fn host(registry: &str) -> &str {
    let rest = registry
        .split_once("://")
        .map_or(registry, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    match host {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => image::HUB,
        other => other,
    }
}

async fn of_configuration(
    shared: &Arc<Shared>,
    registry: &str,
) -> Result<Option<DockerCredentials>, DriverError> {
    let path = shared.options.config_folder.join("config.json");
    let Some(config) = connection::read_json(&path) else {
        return Ok(None);
    };
    let key = if host(registry) == image::HUB {
        HUB_KEY
    } else {
        registry
    };
    let named = |table: &str| {
        let entries = config.get(table)?.as_object()?;
        entries
            .iter()
            .find(|(name, _)| host(name) == host(registry))
    };
    if let Some((_, Value::String(helper))) = named("credHelpers") {
        return ask(helper, key).await;
    }
    if let Some(Value::String(helper)) = config.get("credsStore")
        && let Some(found) = ask(helper, key).await?
    {
        return Ok(Some(found));
    }
    Ok(named("auths").and_then(|(_, entry)| of_entry(entry, key)))
}

/// An entry of `auths`.
fn of_entry(entry: &Value, key: &str) -> Option<DockerCredentials> {
    let text = |name: &str| {
        entry
            .get(name)
            .and_then(Value::as_str)
            .filter(|it| !it.is_empty())
    };
    let mut credentials = DockerCredentials {
        username: text("username").map(str::to_owned),
        password: text("password").map(str::to_owned),
        identitytoken: text("identitytoken").map(str::to_owned),
        registrytoken: text("registrytoken").map(str::to_owned),
        serveraddress: Some(key.to_owned()),
        ..DockerCredentials::default()
    };
    if let Some(encoded) = text("auth") {
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (username, password) = decoded.split_once(':')?;
        credentials.username = Some(username.to_owned());
        credentials.password = Some(password.trim_end_matches('\0').to_owned());
    }
    let known = credentials.username.is_some()
        || credentials.identitytoken.is_some()
        || credentials.registrytoken.is_some();
    known.then_some(credentials)
}

/// Asks a helper, as the Docker command line does: the registry on its standard input, JSON on its output. None: it knows nothing of it.
async fn ask(helper: &str, key: &str) -> Result<Option<DockerCredentials>, DriverError> {
    let program = format!("docker-credential-{helper}");
    let failed = |reason: String| DriverError::Unavailable {
        engine: "credential helper",
        reason: format!("{program}: {reason}"),
    };
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not listen shows in what it answers.
        input.write_all(key.as_bytes()).await.ok();
    }
    let answered = tokio::time::timeout(HELPER_LIMIT, child.wait_with_output()).await;
    let output = answered
        .map_err(|_| {
            failed(format!(
                "it did not answer within {} s",
                HELPER_LIMIT.as_secs()
            ))
        })?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Ok(None);
    }
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed("its answer is not what a helper's answer is".to_owned()))?;
    Ok(of_answer(&answer, key))
}

fn of_answer(answer: &Value, key: &str) -> Option<DockerCredentials> {
    let text = |name: &str| Some(answer.get(name)?.as_str()?.to_owned());
    let (username, secret) = (text("Username")?, text("Secret")?);
    let is_token = username == TOKEN;
    Some(DockerCredentials {
        username: (!is_token).then_some(username),
        password: (!is_token).then(|| secret.clone()),
        identitytoken: is_token.then_some(secret),
        serveraddress: Some(key.to_owned()),
        ..DockerCredentials::default()
    })
}

#[cfg(test)]
mod tests;
