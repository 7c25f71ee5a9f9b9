//! What an answer means: its value, or the error it stands for.

use std::time::Duration;

use http::{
    HeaderMap, StatusCode,
    header::{LOCATION, RETRY_AFTER},
};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    ApiError,
    client::Shared,
    retry::{Again, RetryPolicy},
};

/// A complete answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// How much of a server's text an error quotes.
const MAX_QUOTE: usize = 200;

/// How many of the complaints about a request an error quotes.
const MAX_COMPLAINTS: usize = 5;

// === impl Answer ===

impl Answer {
    /// Whether this failure is worth another try.
    pub(super) fn again(&self, policy: &RetryPolicy) -> Again {
        let delay = retry_after(&self.headers);
        if self.is_maintenance() {
            Again::Maintenance(delay)
        } else if policy.retries_status(self.status.as_u16()) {
            delay.map_or(Again::Later, Again::After)
        } else {
            Again::Never
        }
    }

    /// The error that an answer without success stands for.
    pub(super) fn into_error(self, what: &str, shared: &Shared) -> ApiError {
        let what = what.to_owned();
        let retry_after = retry_after(&self.headers);
        if self.is_maintenance() {
            return ApiError::Maintenance { what, retry_after };
        }
        let status = self.status.as_u16();
        let words = server_words(&self.body);
        let detail = shared.redact(words.as_deref().unwrap_or_default());
        let quoted = || match shared.redact(&quote(&self.body)) {
            body if body.is_empty() => format!("status {status}, no text"),
            body => format!("status {status}: {body}"),
        };
        match status {
            401 | 403 => ApiError::Unauthorized {
                what,
                status,
                credential: shared.credential,
                detail,
            },
            404 | 410 if words.is_none() => ApiError::Unavailable {
                what,
                // A gateway that has lost its backend answers so. Taken for the server's word, it would cancel flow runs.
                reason: format!("not an answer of Prefect: {}", quoted()),
            },
            404 if detail == "Not Found" && !shared.cloud => ApiError::Unexpected {
                what,
                reason: "there is no such route; check that PREFECT_API_URL ends in /api and that the server is not older than this needs".to_owned(),
            },
            404 | 410 => ApiError::NotFound { what, detail },
            409 => ApiError::Conflict { what, detail },
            429 => ApiError::RateLimited { what, retry_after },
            408 | 500.. => ApiError::Unavailable {
                what,
                reason: words.map_or_else(quoted, |_| format!("status {status}: {detail}")),
            },
            400.. => ApiError::Invalid {
                what,
                detail: words.map_or_else(quoted, |_| detail),
            },
            _ => ApiError::Unexpected {
                what,
                reason: elsewhere(&self.headers).unwrap_or_else(quoted),
            },
        }
    }

    fn is_maintenance(&self) -> bool {
        self.headers
            .get("prefect-maintenance")
            .is_some_and(|value| value == "true")
    }
}

// === functions ===

/// Reads a body as JSON of some shape; else says what is wrong with it.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8], confidential: bool) -> Result<T, String> {
    let mut source = serde_json::Deserializer::from_slice(body);
    let error = match serde_path_to_error::deserialize(&mut source) {
        Ok(value) => {
            return source
                .end()
                .map(|()| value)
                .map_err(|_| "text after the JSON".to_owned());
        }
        Err(error) => error,
    };
    if body.is_empty() {
        return Err("expected JSON, got nothing".to_owned());
    }
    let path = error.path().to_string();
    let error = error.into_inner();
    Err(match (error.is_data(), confidential) {
        (true, true) => format!("not of the expected shape at '{path}'"),
        (true, false) => format!("not of the expected shape at '{path}': {error}"),
        (false, true) => format!("expected JSON, got {} bytes of something else", body.len()),
        // JSON that is not to be read all the same: nested too deeply, or with a number that is none.
        (false, false) if matches!(body.first(), Some(b'{' | b'[')) => {
            format!("expected JSON: {error} in: {}", quote(body))
        }
        (false, false) => format!("expected JSON, got: {}", quote(body)),
    })
}

/// What the server says about a failure, in the forms that Prefect has; none if this is not one of them.
///
/// Seen: `{"detail": text}`, `{"exception_message": text}`, the latter with `exception_detail`, a list of `{loc, msg, input}`,
/// and `request_body`. The last two hold what was sent, so they are left out.
fn server_words(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let summary = ["exception_message", "detail", "message", "error"]
        .iter()
        .find_map(|key| answer.get(key)?.as_str());
    let complaints = ["exception_detail", "detail"]
        .iter()
        .find_map(|key| answer.get(key)?.as_array());
    let complaints = complaints
        .into_iter()
        .flatten()
        .take(MAX_COMPLAINTS)
        .filter_map(complaint);
    let words: Vec<String> = summary
        .map(str::to_owned)
        .into_iter()
        .chain(complaints)
        .collect();
    (!words.is_empty()).then(|| shorten(&words.join("; ")))
}

/// One complaint: where and what, without the value.
fn complaint(complaint: &Value) -> Option<String> {
    let message = complaint.get("msg")?.as_str()?;
    let place: Vec<String> = complaint
        .get("loc")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|part| {
            part.as_str()
                .map_or_else(|| part.to_string(), str::to_owned)
        })
        .collect();
    Some(format!("{}: {message}", place.join(".")))
}

/// The beginning of a text that is not ours, on one line.
fn quote(body: &[u8]) -> String {
    shorten(&String::from_utf8_lossy(body))
}

fn shorten(text: &str) -> String {
    // Control characters could change what a terminal shows.
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(8 * MAX_QUOTE)
        .collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    match text.char_indices().nth(MAX_QUOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Where a redirect that was not followed leads.
fn elsewhere(headers: &HeaderMap) -> Option<String> {
    let location = headers.get(LOCATION)?.to_str().ok()?;
    // A query may carry what a login page was told.
    let target = location.split(['?', '#']).next().unwrap_or_default();
    Some(format!(
        "it redirects to {}; set PREFECT_API_URL to where the API is",
        shorten(target)
    ))
}

/// How long the server wants to be left alone: seconds, or a date. What is neither is ignored.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let due = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let delay = due.duration_since(Timestamp::now());
    Some(Duration::try_from(delay).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests;
