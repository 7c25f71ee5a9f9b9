//! Connections: TLS, proxies and pooling.
//!
//! What is sent over them is decided in `request`. One configuration serves HTTP; it is the only place that names certificates.

use std::{fs, net::IpAddr, time::Duration};

use http::HeaderMap;
use reqwest::{Certificate, ClientBuilder};
use url::Host;

use crate::client::{ClientBuildError, ClientOptions};

/// How long a connection may wait for its next use. uvicorn closes idle ones after 5 s, and a proxy may hide that; so we are first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections kept: as many as may be under way at once, so that a burst does not reconnect.
const MAX_IDLE: usize = 32;

/// How long a connection may take to come about. A host that is there answers within a round trip; one that drops packets
/// would otherwise take the whole request's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the HTTP client.
pub(crate) fn build(
    options: &ClientOptions,
    headers: HeaderMap,
) -> Result<reqwest::Client, ClientBuildError> {
    // Fails when a provider is installed already, which then is the one to use.
    drop(rustls::crypto::ring::default_provider().install_default());
    let roots = read_certificates(options)?;
    if !roots.is_empty() {
        return configure(options, headers)
            .tls_certs_only(roots)
            .build()
            .map_err(|error| certificates_error(options, error));
    }
    match configure(options, headers.clone()).build() {
        Ok(client) => Ok(client),
        // Without certificates on the system nothing can be built, not even for plain HTTP.
        Err(error) => configure(options, headers)
            .tls_certs_only(mozilla_roots())
            .build()
            .inspect(|_| {
                tracing::warn!(
                    "the system has no usable certificates, so the built-in ones are trusted"
                );
            })
            .map_err(|_| ClientBuildError::Transport(error)),
    }
}

fn configure(options: &ClientOptions, headers: HeaderMap) -> ClientBuilder {
    let mut builder = reqwest::Client::builder()
        .default_headers(headers)
        .connect_timeout(CONNECT_TIMEOUT.min(options.request_timeout))
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        // Redirects and retries are handled in one place each, and not twice.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .tls_danger_accept_invalid_certs(options.tls_insecure_skip_verify);
    if !options.enable_http2 {
        builder = builder.http1_only();
    }
    let no_proxy = std::env::var("NO_PROXY").or_else(|_| std::env::var("no_proxy"));
    if options
        .url
        .host()
        .is_some_and(|host| goes_direct(&host, &no_proxy.unwrap_or_default()))
    {
        builder = builder.no_proxy();
    }
    builder
}

/// Whether requests to this host must not take a proxy.
///
/// No proxy reaches our own loopback. The HTTP client honours `NO_PROXY` by itself, except for the
/// spelling `*.example.com`, which people write and which means `.example.com`.
fn goes_direct(host: &Host<&str>, no_proxy: &str) -> bool {
    match host {
        Host::Ipv4(address) => IpAddr::V4(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::V6(*address).is_loopback(),
        Host::Domain("localhost") => true,
        Host::Domain(domain) => no_proxy.split(',').any(|entry| {
            entry.trim().strip_prefix('*').is_some_and(|suffix| {
                suffix.starts_with('.') && domain.ends_with(&suffix.to_ascii_lowercase())
            })
        }),
    }
}

/// The certificates of the file that people named; none if they named none.
fn read_certificates(options: &ClientOptions) -> Result<Vec<Certificate>, ClientBuildError> {
    let Some(path) = &options.ssl_cert_file else {
        return Ok(Vec::new());
    };
    let pem = fs::read(path).map_err(|source| ClientBuildError::ReadCertificates {
        path: path.clone(),
        source,
    })?;
    let unusable = |reason: String| ClientBuildError::Certificates {
        path: path.clone(),
        reason,
    };
    let roots = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
    if roots.is_empty() {
        return Err(unusable("it holds none".to_owned()));
    }
    Ok(roots)
}

fn certificates_error(options: &ClientOptions, error: reqwest::Error) -> ClientBuildError {
    match &options.ssl_cert_file {
        Some(path) => ClientBuildError::Certificates {
            path: path.clone(),
            reason: error.to_string(),
        },
        None => ClientBuildError::Transport(error),
    }
}

/// Mozilla's list, as of this build.
fn mozilla_roots() -> Vec<Certificate> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect()
}

#[cfg(test)]
mod tests;
