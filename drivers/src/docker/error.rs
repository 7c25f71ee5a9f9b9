//! What the engine says is wrong, by what a caller can do about it.

use bollard::errors::Error;

use super::ENGINE;
use crate::driver::DriverError;

/// Whether the engine says that what was asked about is not there.
pub(super) fn is_missing(error: &Error) -> bool {
    status(error) == Some(404)
}

/// Whether the engine says that what was asked for is so already, or that somebody is just doing it.
pub(super) fn is_done_already(error: &Error) -> bool {
    matches!(status(error), Some(304 | 404))
        || (status(error) == Some(409) && message(error).contains("already in progress"))
}

/// Whether a name is taken. Podman says so with the status of a defect of its own (4.3).
pub(super) fn is_conflict(error: &Error) -> bool {
    status(error) == Some(409)
        || (status(error) == Some(500) && message(error).contains("is already in use"))
}

/// The HTTP status of the engine's answer, if there was one.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the engine said, else what went wrong on the way to it.
pub(super) fn message(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        Error::RequestTimeoutError => "it did not answer in time".to_owned(),
        other => {
            let text = with_sources(other);
            let detail = text.strip_prefix("Error in the hyper legacy client: ");
            detail.unwrap_or(&text).to_owned()
        }
    }
}

/// Any failure that says nothing about a job: the engine cannot be asked, or answers that it cannot.
pub(super) fn unavailable(error: &Error) -> DriverError {
    DriverError::Unavailable {
        engine: ENGINE,
        reason: message(error),
    }
}

/// Why a container could not be made or started. `what` names it.
pub(super) fn refusal(what: &str, error: &Error) -> DriverError {
    let Some(status) = status(error) else {
        return unavailable(error);
    };
    let text = message(error);
    if text.contains("no space left on device") || text.contains("disk quota exceeded") {
        return DriverError::Quota {
            reason: format!("the engine's disk is full ({text})"),
            retry_after: None,
        };
    }
    if let Some(program) = missing_program(&text) {
        return DriverError::NotFound {
            what: format!("program {program}"),
        };
    }
    // Podman says of a network that is not there that it failed.
    let is_missing = status == 404 || (status == 500 && text.contains("network not found"));
    match status {
        _ if is_missing => DriverError::NotFound {
            what: format!("{what}: {}", text.trim_end_matches(" not found")),
        },
        // It is at its end, or at its beginning.
        502..=504 => unavailable(error),
        _ => DriverError::Invalid {
            field: what.to_owned(),
            reason: text,
        },
    }
}

/// The program that a runtime did not find in an image, with its reason: `exec: "x": executable file not found in $PATH`.
fn missing_program(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("exec: \"")?;
    let (program, reason) = rest.split_once('"')?;
    let missing = ["not found", "no such file", "not a directory"];
    missing
        .iter()
        .any(|word| reason.contains(word))
        .then(|| format!("'{program}' in the image"))
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
