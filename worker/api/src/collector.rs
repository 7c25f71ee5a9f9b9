//! A collector of telemetry, which is not the Prefect API: it shares nothing with it but how connections are made.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use url::Url;
use worker_config::Secret;

use crate::{ClientBuildError, ClientOptions, transport};

/// Takes what is posted to it.
#[derive(Debug)]
pub struct Collector {
    http: reqwest::Client,
    url: Url,
    timeout: Duration,
}

/// Why a collector did not take something.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// It was not reached.
    #[error("the collector at {host} cannot be reached")]
    Unreachable {
        /// Who.
        host: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It refused.
    #[error("the collector at {host} answers {status}")]
    Refused {
        /// Who.
        host: String,
        /// With what.
        status: StatusCode,
    },
}

// === impl Collector ===

impl Collector {
    /// A collector that is reached like the API of these options, with headers of its own.
    ///
    /// # Errors
    /// A header that cannot be sent, or certificates that cannot be read.
    pub fn new(
        options: &ClientOptions,
        url: Url,
        headers: &BTreeMap<String, Secret>,
        timeout: Duration,
    ) -> Result<Self, ClientBuildError> {
        let mut own = HeaderMap::new();
        for (name, value) in headers {
            let illegal = || ClientBuildError::Header { name: name.clone() };
            let header: HeaderName = name.parse().map_err(|_| illegal())?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| illegal())?;
            value.set_sensitive(true);
            own.insert(header, value);
        }
        let options = ClientOptions {
            url: url.clone(),
            // Who trusts a Prefect server blindly has not said so of another.
            tls_insecure_skip_verify: false,
            ..options.clone()
        };
        Ok(Self {
            http: transport::build(&options, own)?,
            url,
            timeout,
        })
    }

    /// Posts a body.
    ///
    /// # Errors
    /// Whatever is not a success.
    pub async fn post(
        &self,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<(), CollectorError> {
        let host = || self.url.host_str().unwrap_or_default().to_owned();
        let request = self
            .http
            .post(self.url.clone())
            .timeout(self.timeout)
            .header(CONTENT_TYPE, content_type)
            .body(body);
        let answer = request.send().await;
        // The URL may have a password in it.
        let answer = answer.map_err(|source| CollectorError::Unreachable {
            host: host(),
            source: source.without_url(),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(CollectorError::Refused {
            host: host(),
            status,
        })
    }
}

// === impl CollectorError ===

impl CollectorError {
    /// Whether it is worth another try, as the protocol has it (OTLP 1.0).
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }
}
