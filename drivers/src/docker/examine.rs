//! Looks at an engine as an operator would: whether it answers, which it is, and what it cannot do.

use std::sync::Arc;

use bollard::models::{SystemInfo, SystemVersion};

use super::{Shared, error, registry, watch};
use crate::{
    driver::{DriverError, Health},
    examination::{Examination, Finding},
};

/// What is looked at, in findings.
const WHAT: &str = "Docker engine";

pub(super) async fn examine(shared: &Arc<Shared>, examination: Examination<'_>) -> Vec<Finding> {
    let url = &shared.options.endpoint.url;
    watch::look_once(shared).await;
    let health = shared.health.borrow().clone();
    if let Health::Down { reason } = health {
        let advice = advice(url, &reason);
        return vec![Finding::problem(WHAT, format!("{url}: {reason}; {advice}"))];
    }
    let (version, info) = match ask(shared).await {
        Ok(asked) => asked,
        Err(error) => return vec![Finding::problem(WHAT, format!("{url}: {error}"))],
    };
    let mut findings = vec![Finding::ok(WHAT, identity(url, &version))];
    findings.extend(shortcomings(url, &info));
    if let Some(image) = examination.image {
        findings.push(image_of(shared, image).await);
    }
    findings
}

async fn ask(shared: &Shared) -> Result<(SystemVersion, SystemInfo), DriverError> {
    let engine = shared.control()?;
    let version = engine.version().await;
    let info = engine.info().await;
    let unavailable = |error| error::unavailable(&error);
    Ok((version.map_err(unavailable)?, info.map_err(unavailable)?))
}

fn identity(url: &str, version: &SystemVersion) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
    let components = version.components.as_deref().unwrap_or_default();
    let podman = components.iter().any(|part| part.name.contains("Podman"));
    let name = if podman { "Podman" } else { "Docker" };
    format!(
        "{url} answers: {name} {}, API {} ({}/{})",
        text(&version.version),
        text(&version.api_version),
        text(&version.os),
        text(&version.arch)
    )
}

/// What jobs may ask for in vain, and what others may do.
fn shortcomings(url: &str, info: &SystemInfo) -> Vec<Finding> {
    let mut findings = Vec::new();
    if info.memory_limit == Some(false) {
        findings.push(Finding::warning(
            WHAT,
            "it cannot limit memory, so `mem_limit` and `memswap_limit` have no effect; its kernel needs the memory cgroup controller",
        ));
    }
    let is_plain = url.starts_with("tcp://") || url.starts_with("http://");
    if is_plain && !url.contains("://127.") && !url.contains("://localhost") {
        findings.push(Finding::warning(
            WHAT,
            "it is spoken to without TLS, and whoever reaches it may do everything on its machine; set DOCKER_TLS_VERIFY and DOCKER_CERT_PATH",
        ));
    }
    findings
}

/// What to do about an engine that does not answer.
fn advice(url: &str, reason: &str) -> &'static str {
    let reason = reason.to_ascii_lowercase();
    if reason.contains("permission denied") {
        "let the worker's user into the group of the socket (under systemd: drop-in docker.conf), or use a rootless engine"
    } else if reason.contains("older than") {
        "update the engine"
    } else if url.starts_with("unix://") {
        "start the engine, or name another by DOCKER_HOST or DOCKER_CONTEXT"
    } else {
        "see that it listens there, or name another by DOCKER_HOST"
    }
}

/// Asks the registry of an image for it, by the engine, with the credentials that a pull would have.
async fn image_of(shared: &Arc<Shared>, image: &str) -> Finding {
    const WHAT: &str = "image";
    let credentials = match registry::of_image(shared, image).await {
        Ok(credentials) => credentials,
        Err(error) => return Finding::problem(WHAT, format!("{image}: {error}")),
    };
    let asked = match shared.work() {
        Ok(engine) => engine.inspect_registry_image(image, credentials).await,
        Err(error) => return Finding::problem(WHAT, format!("{image}: {error}")),
    };
    match asked {
        Ok(_) => Finding::ok(
            WHAT,
            format!("the registry has {image}, and the engine may pull it"),
        ),
        Err(error) => Finding::problem(
            WHAT,
            format!(
                "{image} cannot be had from its registry: {}; is the name right, and is there a login for it?",
                error::message(&error)
            ),
        ),
    }
}

#[cfg(test)]
mod tests;
