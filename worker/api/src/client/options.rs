//! How to reach an API, and what can be wrong with that.
//!
//! Where these values come from is decided in `worker_config`; what is done with them, in `headers` and `transport`.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use thiserror::Error;
use url::Url;
use worker_config::{Secret, settings::ApiSettings};

use crate::RetryPolicy;

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
            websockets: _, // Decides which parts of a worker there are.
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
