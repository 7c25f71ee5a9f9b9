//! The client: what every request has in common, and what clones of it share.
//!
//! Routes are in `routes`, one request from its tries to its answer in `request`, connections in `transport`.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use thiserror::Error;
use tokio::sync::Semaphore;
use url::Url;
use worker_config::{Secret, settings::ApiSettings};

use crate::{Credential, RetryPolicy, csrf::Csrf, transport, types::WorkerId};

/// Speaks to one Prefect API.
///
/// Cheap to clone: clones share connections, the CSRF token and the limit of requests under way.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) retry: RetryPolicy,
}

/// How to reach an API.
#[derive(Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent switches of the settings"
)]
pub struct ClientOptions {
    /// The base URL, ending in `/api` or in a Cloud workspace.
    pub url: Url,
    /// Whether this is Prefect Cloud, which has no CSRF tokens and gives workers an id.
    pub cloud: bool,
    /// Sent as a bearer token.
    pub key: Option<Secret>,
    /// Sent as basic authentication; wins over the key.
    pub auth_string: Option<Secret>,
    /// Added to each request. `User-Agent` and the CSRF headers are not taken from here.
    pub custom_headers: BTreeMap<String, Secret>,
    /// Accept any certificate.
    pub tls_insecure_skip_verify: bool,
    /// Trust these certificates instead of the system's.
    pub ssl_cert_file: Option<PathBuf>,
    /// Speak HTTP/2 where the server does.
    pub enable_http2: bool,
    /// The limit of one try of one request.
    pub request_timeout: Duration,
    /// How failed requests are repeated.
    pub retry: RetryPolicy,
    /// Whether to ask for CSRF tokens.
    pub csrf_support: bool,
    /// Named to the server with each request.
    pub worker_name: Option<String>,
}

/// Why a client cannot be made from its options.
#[derive(Debug, Error)]
pub enum ClientBuildError {
    /// The API URL is not one.
    #[error("the API URL must start with http:// or https:// and name a host")]
    Url,
    /// A credential has characters that no header may have.
    #[error(
        "the {0} has characters that cannot be sent in a header, such as a line break; set it again"
    )]
    Credential(&'static str),
    /// A custom header is not one.
    #[error("the custom header '{name}' is not a legal header; correct its name or value")]
    Header {
        /// Its name.
        name: String,
    },
    /// The file of certificates cannot be read.
    #[error("cannot read the certificates in '{}'; check PREFECT_API_SSL_CERT_FILE", path.display())]
    ReadCertificates {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of certificates has none that can be used.
    #[error("found no usable PEM certificate in '{}'; check PREFECT_API_SSL_CERT_FILE", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong, if the TLS library said.
        reason: String,
    },
    /// The HTTP client does not accept its configuration, such as a proxy from the environment.
    #[error("cannot set up the HTTP client")]
    Transport(#[source] reqwest::Error),
}

/// What clones of a client have in common.
pub(crate) struct Shared {
    pub(crate) http: reqwest::Client,
    /// Without user, password, query and trailing slash.
    pub(crate) base: Url,
    /// Host and port, for errors.
    pub(crate) host: String,
    pub(crate) cloud: bool,
    pub(crate) credential: Credential,
    pub(crate) request_timeout: Duration,
    pub(crate) csrf: Csrf,
    /// The id that Cloud gave this worker.
    pub(crate) worker_id: OnceLock<WorkerId>,
    /// Whether any answer ever came: only then can a connection be stale.
    pub(crate) answered: AtomicBool,
    pub(crate) in_flight: Semaphore,
    /// What must not appear in an error that quotes a server.
    secrets: Vec<Secret>,
}

/// The client release whose behaviour this one has; the server looks at it to decide who keeps concurrency slots (3.8.8).
const USER_AGENT: &str = "prefect/3.8.8 (API 0.8.4)";

/// The version of the API that this client speaks.
const API_VERSION: &str = "0.8.4";

/// Who this really is, since the user agent has to be the reference's.
const RUNTIME: &str = concat!("worker/", env!("CARGO_PKG_VERSION"));

/// Requests under way at once. It is twice the reference's limit of connections; more would only queue in the server, which answers 503 when its database is busy.
const MAX_IN_FLIGHT: usize = 32;

/// Headers that people may not set (3.8.8).
const PROTECTED_HEADERS: [&str; 3] = ["user-agent", "prefect-csrf-token", "prefect-csrf-client"];

/// What may not stand in a header value as it is. `%` is among it so that decoding gives the name back.
const HEADER_UNSAFE: &AsciiSet = &CONTROLS.add(b'%');

/// Shorter texts would blacken half of every message and protect nothing.
const MIN_SECRET: usize = 4;

// === impl Client ===

impl Client {
    /// A client with connections of its own. Nothing is sent yet.
    pub fn new(options: ClientOptions) -> Result<Self, ClientBuildError> {
        let mut base = options.url.clone();
        let host = match (base.scheme(), base.host_str(), base.port()) {
            ("http" | "https", Some(host), Some(port)) => format!("{host}:{port}"),
            ("http" | "https", Some(host), None) => host.to_owned(),
            _ => return Err(ClientBuildError::Url),
        };
        let (headers, credential, secrets) = headers(&options)?;
        let http = transport::build(&options, headers)?;
        // A URL with a host takes all of these.
        let () = base.set_username("").unwrap_or_default();
        let () = base.set_password(None).unwrap_or_default();
        base.set_query(None);
        base.set_fragment(None);
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        let shared = Shared {
            http,
            base,
            host,
            cloud: options.cloud,
            credential,
            request_timeout: options.request_timeout,
            csrf: Csrf::new(options.csrf_support && !options.cloud),
            worker_id: OnceLock::new(),
            answered: AtomicBool::new(false),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            secrets,
        };
        Ok(Self {
            shared: Arc::new(shared),
            retry: options.retry,
        })
    }

    /// The same client with another number of retries; 0 is for loops, which try again by themselves.
    #[must_use]
    pub fn with_retries(&self, max_retries: u32) -> Self {
        self.with_retry_policy(self.retry.clone().with_retries(max_retries))
    }

    /// The same client with another retry policy.
    #[must_use]
    pub fn with_retry_policy(&self, retry: RetryPolicy) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            retry,
        }
    }

    /// The base URL, without user and password.
    pub fn base_url(&self) -> &Url {
        &self.shared.base
    }

    /// Whether this is Prefect Cloud.
    pub fn is_cloud(&self) -> bool {
        self.shared.cloud
    }

    /// The id that the server gave this worker in answer to a heartbeat; only Prefect Cloud does.
    pub fn worker_id(&self) -> Option<WorkerId> {
        self.shared.worker_id.get().copied()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.shared.base.as_str())
            .field("cloud", &self.shared.cloud)
            .field("credential", &self.shared.credential)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

// === impl ClientOptions ===

impl ClientOptions {
    /// Options with the reference's defaults and no credential.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            cloud: false,
            key: None,
            auth_string: None,
            custom_headers: BTreeMap::new(),
            tls_insecure_skip_verify: false,
            ssl_cert_file: None,
            enable_http2: false,
            request_timeout: Duration::from_mins(1),
            retry: RetryPolicy::default(),
            csrf_support: true,
            worker_name: None,
        }
    }

    /// Options as people set them, for the API at `url`, which may be the embedded one.
    pub fn from_settings(settings: &ApiSettings, url: Url) -> Self {
        let ApiSettings {
            url: _, // The caller says which API is meant.
            key,
            auth_string,
            custom_headers,
            cloud_url,
            tls_insecure_skip_verify,
            ssl_cert_file,
            enable_http2,
            request_timeout,
            max_retries: _, // In the retry policy, as the next two.
            retry_jitter_factor: _,
            retry_extra_codes: _,
            csrf_support,
        } = settings;
        Self {
            cloud: url
                .as_str()
                .starts_with(cloud_url.as_str().trim_end_matches('/')),
            url,
            key: key.clone(),
            auth_string: auth_string.clone(),
            custom_headers: custom_headers.clone(),
            tls_insecure_skip_verify: *tls_insecure_skip_verify,
            ssl_cert_file: ssl_cert_file.clone(),
            enable_http2: *enable_http2,
            request_timeout: *request_timeout,
            retry: RetryPolicy::from_settings(settings),
            csrf_support: *csrf_support,
            worker_name: None,
        }
    }

    /// The same options with the name of a worker.
    #[must_use]
    pub fn named(mut self, worker_name: impl Into<String>) -> Self {
        self.worker_name = Some(worker_name.into());
        self
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a user and a password.
        f.debug_struct("ClientOptions")
            .field("host", &self.url.host_str())
            .field("path", &self.url.path())
            .field("cloud", &self.cloud)
            .field("key", &self.key)
            .field("auth_string", &self.auth_string)
            .field("custom_headers", &self.custom_headers)
            .field("tls_insecure_skip_verify", &self.tls_insecure_skip_verify)
            .field("ssl_cert_file", &self.ssl_cert_file)
            .field("request_timeout", &self.request_timeout)
            .field("retry", &self.retry)
            .field("worker_name", &self.worker_name)
            .finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    /// The text without any credential of ours that a server may have sent back.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.expose(), "***")
        })
    }
}

// === functions ===

/// The headers of every request, which credential they carry, and what of them is secret.
fn headers(
    options: &ClientOptions,
) -> Result<(HeaderMap, Credential, Vec<Secret>), ClientBuildError> {
    let mut headers = HeaderMap::new();
    let (credential, sent) = authorization(options);
    let mut secrets: Vec<Secret> = [&options.key, &options.auth_string]
        .into_iter()
        .flatten()
        .cloned()
        .chain(options.custom_headers.values().cloned())
        .collect();
    if let Some((text, name)) = sent {
        headers.insert(
            AUTHORIZATION,
            sensitive(text.expose()).ok_or(ClientBuildError::Credential(name))?,
        );
        secrets.extend(
            text.expose()
                .split_once(' ')
                .map(|(_, value)| Secret::new(value)),
        );
    }
    if let Some(password) = options.url.password() {
        secrets.push(Secret::new(password));
    }
    secrets.retain(|secret| secret.expose().len() >= MIN_SECRET);
    if let Some(name) = &options.worker_name {
        let name = utf8_percent_encode(name.trim(), HEADER_UNSAFE).to_string();
        let value =
            HeaderValue::from_str(&name).expect("percent-encoded text is a legal header value");
        headers.insert("x-prefect-worker-name", value);
    }
    let mut credential = credential;
    for (name, value) in &options.custom_headers {
        let illegal = || ClientBuildError::Header { name: name.clone() };
        let header: HeaderName = name.trim().parse().map_err(|_| illegal())?;
        if PROTECTED_HEADERS.contains(&header.as_str()) {
            tracing::warn!(header = %header, "custom header is not sent, its name is the client's own");
            continue;
        }
        if header == AUTHORIZATION {
            credential = Credential::CustomHeader;
        }
        headers.insert(header, sensitive(value.expose()).ok_or_else(illegal)?);
    }
    headers.insert("user-agent", HeaderValue::from_static(USER_AGENT));
    headers.insert(
        "x-prefect-api-version",
        HeaderValue::from_static(API_VERSION),
    );
    headers.insert("x-worker-runtime", HeaderValue::from_static(RUNTIME));
    Ok((headers, credential, secrets))
}

/// The value of the `Authorization` header and what it was made from. The auth string wins over the key (3.8.8).
fn authorization(options: &ClientOptions) -> (Credential, Option<(Secret, &'static str)>) {
    let set = |secret: &Option<Secret>| secret.clone().filter(|secret| !secret.is_empty());
    let basic = |text: &str| Secret::new(format!("Basic {}", BASE64_STANDARD.encode(text)));
    if let Some(text) = set(&options.auth_string) {
        return (
            Credential::AuthString,
            Some((basic(text.expose()), "auth string")),
        );
    }
    if let Some(key) = set(&options.key) {
        let bearer = Secret::new(format!("Bearer {}", key.expose()));
        return (Credential::Key, Some((bearer, "API key")));
    }
    if options.url.username().is_empty() && options.url.password().is_none() {
        return (Credential::None, None);
    }
    let decode = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy();
    let user = decode(options.url.username());
    let password = decode(options.url.password().unwrap_or_default());
    let header = basic(&format!("{user}:{password}"));
    (
        Credential::Url,
        Some((header, "user and password of the API URL")),
    )
}

/// A header value that no debug output shows. The server trims, so do we.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text.trim()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests;
