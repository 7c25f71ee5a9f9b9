//! Google Cloud Storage: what steps, blocks and fsspec settings say of it, and opening it.

use std::{path::PathBuf, sync::Arc};

use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use serde_json::Value;
use worker_config::secret::Secret;

use super::{
    SourceError,
    ambient::Ambient,
    fault::{Fault, Kind},
    inputs::Inputs,
    s3::once,
    transport::{self, Connector},
};

mod federation;

/// A bucket, and what it takes to be let in.
#[derive(Clone, Debug)]
pub struct Gcs {
    pub(super) bucket: String,
    login: Login,
    endpoint: Option<String>,
}

/// Who asks.
#[derive(Clone, Debug)]
enum Login {
    /// Nobody in particular.
    Anonymous,
    /// Credentials as JSON.
    Json(Secret),
    /// A file of them.
    File(String),
    /// A token that somebody else got.
    Token(Secret),
    /// What Google's own tools would find.
    Default,
    /// What the instance lends.
    Instance,
}

// === impl Gcs ===

impl Gcs {
    /// From a credentials block. `project` plays no part in reading.
    pub(super) fn new(bucket: &str, credentials: Inputs<'_>) -> Result<Self, SourceError> {
        let login = match credentials.find("service_account_info") {
            Some(Value::Object(info)) => {
                Login::Json(Secret::new(Value::Object(info.clone()).to_string()))
            }
            Some(Value::String(text)) => Login::Json(Secret::new(text.clone())),
            Some(_) => {
                return Err(credentials.wrong("service_account_info", "must be a mapping or JSON"));
            }
            None => match credentials.find_string("service_account_file")? {
                Some(file) => Login::File(file),
                None => Login::Default,
            },
        };
        Ok(Self {
            bucket: bucket.to_owned(),
            login,
            endpoint: None,
        })
    }

    /// From the settings of fsspec's `GCSFileSystem`.
    pub(super) fn of_settings(bucket: &str, settings: Inputs<'_>) -> Result<Self, SourceError> {
        let login = match settings.find("token") {
            None => Login::Default,
            Some(Value::Object(info)) => {
                Login::Json(Secret::new(Value::Object(info.clone()).to_string()))
            }
            Some(Value::String(kind)) => match kind.as_str() {
                "anon" => Login::Anonymous,
                "google_default" => Login::Default,
                "cloud" => Login::Instance,
                "cache" | "browser" => {
                    return Err(settings.wrong("token", "asks for a person; a worker has none"));
                }
                text if text.trim_start().starts_with('{') => Login::Json(Secret::new(text)),
                text if text.starts_with("ya29.") => Login::Token(Secret::new(text)),
                file => Login::File(file.to_owned()),
            },
            Some(_) => return Err(settings.wrong("token", "must be a text or a mapping")),
        };
        let endpoint = settings.find_string("endpoint_url")?;
        Ok(Self {
            bucket: bucket.to_owned(),
            login,
            endpoint,
        })
    }

    /// Opens it.
    pub(super) fn open(
        &self,
        ambient: &Arc<Ambient>,
        client: &reqwest::Client,
    ) -> Result<GoogleCloudStorage, Fault> {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&self.bucket)
            .with_retry(once())
            .with_http_connector(Connector(client.clone()));
        let emulator = || ambient.find("STORAGE_EMULATOR_HOST");
        if let Some(endpoint) = self.endpoint.clone().or_else(emulator) {
            let address = if endpoint.contains("://") {
                endpoint
            } else {
                format!("http://{endpoint}")
            };
            builder = builder.with_config(GoogleConfigKey::BaseUrl, address.trim_end_matches('/'));
        }
        builder = match &self.login {
            Login::Anonymous => builder.with_skip_signature(true),
            Login::Token(token) => builder.with_bearer_token(token.expose()),
            Login::Json(json) => login(builder, json, None, client)?,
            Login::File(file) => {
                let path = ambient.expand(file);
                let json = read(&path)?;
                login(builder, &json, Some(&path), client)?
            }
            Login::Default => match find_default(ambient) {
                Some(path) => {
                    let json = read(&path)?;
                    login(builder, &json, Some(&path), client)?
                }
                None => instance(builder)?,
            },
            Login::Instance => instance(builder)?,
        };
        builder.build().map_err(|_| {
            Fault::new(
                Kind::Denied,
                "the bucket's name, endpoint or service account cannot be used",
            )
        })
    }
}

// === functions ===

/// Where Google's tools keep what applications are to use.
fn find_default(ambient: &Ambient) -> Option<PathBuf> {
    if let Some(file) = ambient.find("GOOGLE_APPLICATION_CREDENTIALS") {
        return Some(ambient.expand(&file));
    }
    let folder = ambient
        .find("CLOUDSDK_CONFIG")
        .map_or_else(|| ambient.expand("~/.config/gcloud"), PathBuf::from);
    let file = folder.join("application_default_credentials.json");
    file.exists().then_some(file)
}

fn read(path: &std::path::Path) -> Result<Secret, Fault> {
    std::fs::read_to_string(path)
        .map(Secret::new)
        .map_err(|error| {
            let reason = format!(
                "the Google credentials in {} cannot be read: {error}",
                path.display()
            );
            Fault::new(Kind::Denied, reason)
        })
}

/// Lets the builder use credentials of whatever kind the JSON says it is.
fn login(
    builder: GoogleCloudStorageBuilder,
    json: &Secret,
    path: Option<&std::path::Path>,
    client: &reqwest::Client,
) -> Result<GoogleCloudStorageBuilder, Fault> {
    let denied = |reason| Fault::new(Kind::Denied, reason);
    let value: Value = serde_json::from_str(json.expose())
        .map_err(|_| denied("the Google credentials are not JSON"))?;
    match (value.get("type").and_then(Value::as_str), path) {
        (Some("service_account") | None, _) => Ok(builder.with_service_account_key(json.expose())),
        (Some("authorized_user"), Some(path)) => {
            Ok(builder.with_application_credentials(path.to_string_lossy().into_owned()))
        }
        (Some("external_account"), _) => {
            Ok(builder.with_credentials(federation::provider(&value, client)?))
        }
        _ => Err(denied(
            "the Google credentials are of a kind that this worker does not know",
        )),
    }
}

/// Lets the builder ask the instance, which answers at once or is not there.
fn instance(builder: GoogleCloudStorageBuilder) -> Result<GoogleCloudStorageBuilder, Fault> {
    let asking = GoogleCloudStorageBuilder::new()
        .with_bucket_name("none")
        .with_retry(once())
        .with_http_connector(Connector(transport::neighbour()?))
        .build()
        .map_err(|_| Fault::permanent("the instance's credentials cannot be asked for"))?;
    Ok(builder.with_credentials(federation::instance(Arc::clone(asking.credentials()))))
}
