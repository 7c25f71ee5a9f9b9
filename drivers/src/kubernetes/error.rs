//! What a cluster's refusals mean to whoever asked.

use std::time::Duration;

use kube::{core::Status, runtime::watcher};

use super::ENGINE;
use crate::driver::DriverError;

/// What to do where a right is missing.
const GIVE: &str = "give the worker's service account the permission (the Role of the Helm chart has all that it needs)";

/// What the cluster said, where it said something.
pub(super) fn status(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// The cluster does not have it.
pub(super) fn is_missing(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.code == 404)
}

/// The cluster has one of that name.
pub(super) fn is_taken(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.code == 409 && status.reason == "AlreadyExists")
}

/// It has changed meanwhile, or is not what it was.
pub(super) fn is_conflict(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.code == 409)
}

/// We may not.
pub(super) fn is_forbidden(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.code == 403)
}

/// Any failure of a call whose object is not to blame.
pub(super) fn unavailable(error: &kube::Error) -> DriverError {
    DriverError::Unavailable {
        engine: ENGINE,
        reason: advice(error),
    }
}

/// What was said, and what to do where it is a right that is missing. The cluster names verb, resource and namespace itself.
pub(super) fn advice(error: &kube::Error) -> String {
    let said = message(error);
    if is_forbidden(error) {
        return format!("{said}; {GIVE}");
    }
    said
}

/// Why something could not be made, by what can be done about it.
pub(super) fn refused(error: &kube::Error, what: &str) -> DriverError {
    let Some(status) = status(error) else {
        return unavailable(error);
    };
    let said = status.message.clone();
    let delay = status
        .details
        .as_ref()
        .map_or(0, |it| it.retry_after_seconds);
    let retry_after = (delay > 0).then(|| Duration::from_secs(u64::from(delay)));
    match status.code {
        403 if said.contains("exceeded quota") => DriverError::Quota {
            reason: said,
            retry_after,
        },
        // A namespace on its way out takes nothing new, and will not again.
        403 if said.contains("is being terminated") => DriverError::NotFound {
            what: format!("a place for {what}: {said}; its namespace"),
        },
        403 => DriverError::Denied {
            what: what.to_owned(),
            reason: format!("{said}; {GIVE}, or ask who admits what to the cluster"),
        },
        404 => DriverError::NotFound {
            what: format!("the namespace of {what} ({said})"),
        },
        400 | 405 | 406 | 413 | 415 | 422 => DriverError::Invalid {
            field: "job_manifest".to_owned(),
            reason: format!("the cluster does not take it: {said}"),
        },
        429 => DriverError::Quota {
            reason: format!("the cluster's API has too much to do: {said}"),
            retry_after,
        },
        _ => unavailable(error),
    }
}

/// What was said, for a person.
pub(super) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("{} {}", status.code, status.reason),
        kube::Error::Service(source) => chain(source.as_ref()),
        other => chain(other),
    }
}

/// An error and what it came from, each said once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        next = source.source();
    }
    said
}

/// A watch may not be.
pub(super) fn watch_is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => is_forbidden(error),
        watcher::Error::WatchError(status) => status.code == 403,
        watcher::Error::NoResourceVersion => false,
    }
}

/// Why a watch failed, and what to do where it is a right that is missing.
pub(super) fn watch_reason(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => advice(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => "the cluster's answer has no version".to_owned(),
    }
}

#[cfg(test)]
mod tests;
