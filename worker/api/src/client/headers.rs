//! The headers of every request, and the credential among them.

use std::cmp::Reverse;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use worker_config::Secret;

use super::{ClientBuildError, ClientOptions};
use crate::Credential;

/// The client release whose behaviour this one has; the server looks at it to decide who keeps concurrency slots (3.8.8).
const USER_AGENT: &str = "prefect/3.8.8 (API 0.8.4)";

/// The version of the API that this client speaks.
const API_VERSION: &str = "0.8.4";

/// Who this really is, since the user agent has to be the reference's.
const RUNTIME: &str = concat!("worker/", env!("CARGO_PKG_VERSION"));

/// Headers that people may not set (3.8.8).
const PROTECTED_HEADERS: [&str; 3] = ["user-agent", "prefect-csrf-token", "prefect-csrf-client"];

/// What may not stand in a header value as it is. `%` is among it so that decoding gives the name back.
const HEADER_UNSAFE: &AsciiSet = &CONTROLS.add(b'%');

/// Shorter texts, such as the `true` of some custom header, would blacken messages and protect nothing.
const MIN_SECRET: usize = 6;

/// The headers of every request, which credential they carry, and what of them is secret.
pub(super) fn headers(
    options: &ClientOptions,
) -> Result<(HeaderMap, Credential, Vec<Secret>), ClientBuildError> {
    let mut headers = HeaderMap::new();
    let (mut credential, sent) = authorization(options);
    let secrets = secrets(options, sent.as_ref().map(|(text, _)| text));
    if let Some((text, name)) = sent {
        let value = sensitive(text.expose()).ok_or(ClientBuildError::Credential(name))?;
        headers.insert(AUTHORIZATION, value);
    }
    for (name, value) in &options.custom_headers {
        let illegal = || ClientBuildError::Header { name: name.clone() };
        let header: HeaderName = name.trim().parse().map_err(|_| illegal())?;
        if PROTECTED_HEADERS.contains(&header.as_str()) {
            tracing::warn!(%header, "custom header is not sent, its name is the client's own");
            continue;
        }
        if header == AUTHORIZATION {
            credential = Credential::CustomHeader;
        }
        headers.insert(header, sensitive(value.expose()).ok_or_else(illegal)?);
    }
    let own = [
        ("user-agent", USER_AGENT),
        ("x-prefect-api-version", API_VERSION),
        ("x-worker-runtime", RUNTIME),
    ];
    headers.extend(own.map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    }));
    Ok((headers, credential, secrets))
}

/// A worker's name as a header has it.
pub(super) fn worker_name(name: &str) -> HeaderValue {
    let name = utf8_percent_encode(name.trim(), HEADER_UNSAFE).to_string();
    HeaderValue::from_str(&name).expect("what is no legal value was encoded")
}

/// Each form in which a server may quote what we sent.
fn secrets(options: &ClientOptions, sent: Option<&Secret>) -> Vec<Secret> {
    let after = |text: &str, mark: char| text.split_once(mark).map(|(_, rest)| Secret::new(rest));
    let auth_string = options.auth_string.as_ref();
    let mut secrets: Vec<Secret> = [&options.key, &options.auth_string]
        .into_iter()
        .flatten()
        .chain(options.custom_headers.values())
        .cloned()
        .chain(auth_string.and_then(|text| after(text.expose(), ':')))
        .chain(sent.and_then(|text| after(text.expose(), ' ')))
        .chain(options.url.password().map(Secret::new))
        .filter(|secret| secret.expose().len() >= MIN_SECRET)
        .collect();
    // One may be part of another, which then has to go first.
    secrets.sort_by_key(|secret| Reverse(secret.expose().len()));
    secrets
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
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
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
