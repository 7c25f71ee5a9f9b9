//! Where the engine is, and how it is reached: `DOCKER_HOST`, the context of the Docker command line, or a socket in one of the usual places.
//!
//! Only what a `docker` on the same machine would find is found here, and in the same order.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use http::HeaderValue;
use serde_json::Value;

use super::ENGINE;
use crate::driver::DriverError;

/// How an engine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `unix:///…`, `tcp://…`, `http://…` or `https://…`.
    pub url: String,
    /// The directory with `ca.pem`, `cert.pem` and `key.pem`, if the engine wants TLS.
    pub certificates: Option<PathBuf>,
}

/// The deadline of a request that the engine answers out of its head.
pub(super) const CONTROL_LIMIT: Duration = Duration::from_secs(20);
/// The deadline for the beginning of an answer that takes the engine some work: a container's file system, a registry's first word.
pub(super) const WORK_LIMIT: Duration = Duration::from_mins(2);

/// The socket of an engine that runs as root.
const ROOT_SOCKET: &str = "/var/run/docker.sock";

// === impl Endpoint ===

impl Endpoint {
    /// The engine that these environment variables and the files they lead to name.
    ///
    /// # Errors
    /// [`DriverError::Invalid`] for a context that is not there.
    pub fn find(environment: &BTreeMap<String, String>) -> Result<Self, DriverError> {
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        if let Some(url) = set("DOCKER_HOST") {
            let wants_tls = set("DOCKER_TLS_VERIFY").is_some() || set("DOCKER_CERT_PATH").is_some();
            let certificates = wants_tls.then(|| match set("DOCKER_CERT_PATH") {
                Some(path) => PathBuf::from(path),
                None => home(environment).join(".docker"),
            });
            return Ok(Self {
                url: url.clone(),
                certificates,
            });
        }
        let folder = config_folder(environment);
        let current = || {
            let config = read_json(&folder.join("config.json"))?;
            Some(config.get("currentContext")?.as_str()?.to_owned())
        };
        match set("DOCKER_CONTEXT").cloned().or_else(current) {
            Some(name) if name != "default" => in_context(&folder, &name),
            _ => Ok(Self::of_socket(environment)),
        }
    }

    /// The first usual place that has a socket: the engine of root, a rootless one, Podman.
    fn of_socket(environment: &BTreeMap<String, String>) -> Self {
        let mut places = vec![PathBuf::from(ROOT_SOCKET)];
        if let Some(runtime) = environment.get("XDG_RUNTIME_DIR") {
            places.push(Path::new(runtime).join("docker.sock"));
            places.push(Path::new(runtime).join("podman/podman.sock"));
        }
        places.push(PathBuf::from("/run/podman/podman.sock"));
        let found = places.into_iter().find(|place| place.exists());
        let socket = found.unwrap_or_else(|| PathBuf::from(ROOT_SOCKET));
        Self {
            url: format!("unix://{}", socket.display()),
            certificates: None,
        }
    }

    /// What infrastructure ids begin with, as docker-py names the same engine: every socket is `http+docker://localhost`.
    pub fn base_url(&self) -> String {
        let rest = match self.url.split_once("://") {
            Some(("unix", _)) | None => return "http+docker://localhost".to_owned(),
            Some((_, rest)) => rest.trim_end_matches('/'),
        };
        let scheme = if self.is_tls() { "https" } else { "http" };
        format!("{scheme}://{rest}")
    }

    fn is_tls(&self) -> bool {
        self.certificates.is_some() || self.url.starts_with("https://")
    }

    /// A client. Nothing is sent yet.
    pub(super) fn client(&self, limit: Duration) -> Result<Docker, DriverError> {
        let invalid = |reason: String| DriverError::Invalid {
            field: "DOCKER_HOST".to_owned(),
            reason,
        };
        let seconds = limit.as_secs();
        let client = if self.is_tls() {
            let folder = self.certificates.clone().unwrap_or_default();
            let file = |name: &str| folder.join(name);
            let (key, certificate, ca) = (file("key.pem"), file("cert.pem"), file("ca.pem"));
            Docker::connect_with_ssl(
                &self.url,
                &key,
                &certificate,
                &ca,
                seconds,
                API_DEFAULT_VERSION,
            )
        } else if self.url.starts_with("unix://") {
            Docker::connect_with_unix(&self.url, seconds, API_DEFAULT_VERSION)
        } else if self.url.starts_with("tcp://") || self.url.starts_with("http://") {
            Docker::connect_with_http(&self.url, seconds, API_DEFAULT_VERSION)
        } else {
            return Err(invalid(format!(
                "'{}' is not an address this worker can speak to; use unix://, tcp:// or https://, and a forwarded socket instead of ssh://",
                self.url
            )));
        };
        match client {
            Ok(client) => Ok(client.with_request_modifier(spell_credentials)),
            // The socket may appear later.
            Err(error @ bollard::errors::Error::SocketNotFoundError(_)) => {
                Err(DriverError::Unavailable {
                    engine: ENGINE,
                    reason: error.to_string(),
                })
            }
            Err(error) => Err(invalid(error.to_string())),
        }
    }
}

/// Makes a registry's credentials readable to engines: they expect base64 in its spelling for URLs, and forget credentials in the other one without
/// a word. bollard 0.21.1 writes the other one, which differs for some passwords.
fn spell_credentials(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("X-Registry-Auth") {
        let spelled: Vec<u8> = value
            .as_bytes()
            .iter()
            .map(|byte| match byte {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            })
            .collect();
        if let Ok(spelled) = HeaderValue::from_bytes(&spelled) {
            *value = spelled;
            value.set_sensitive(true);
        }
    }
    request
}

/// Where the Docker command line keeps its configuration.
pub(super) fn config_folder(environment: &BTreeMap<String, String>) -> PathBuf {
    match environment.get("DOCKER_CONFIG").filter(|it| !it.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => home(environment).join(".docker"),
    }
}

fn home(environment: &BTreeMap<String, String>) -> PathBuf {
    environment
        .get("HOME")
        .map_or_else(PathBuf::new, PathBuf::from)
}

/// The endpoint of a context. Its files are in a directory named by a hash, and say their name inside.
fn in_context(folder: &Path, name: &str) -> Result<Endpoint, DriverError> {
    let entries = fs::read_dir(folder.join("contexts/meta"));
    let found = entries.into_iter().flatten().flatten().find_map(|entry| {
        let meta = read_json(&entry.path().join("meta.json"))?;
        (meta.get("Name")?.as_str()? == name).then_some((entry.file_name(), meta))
    });
    let host = found.as_ref().and_then(|(_, meta)| {
        let host = meta.pointer("/Endpoints/docker/Host")?.as_str()?;
        Some(host.to_owned())
    });
    let (Some((hash, _)), Some(url)) = (found, host) else {
        return Err(DriverError::Invalid {
            field: "DOCKER_CONTEXT".to_owned(),
            reason: format!(
                "there is no Docker context '{name}' in {}",
                folder.display()
            ),
        });
    };
    let certificates = folder.join("contexts/tls").join(hash).join("docker");
    Ok(Endpoint {
        url,
        certificates: certificates.join("ca.pem").exists().then_some(certificates),
    })
}

pub(super) fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests;
