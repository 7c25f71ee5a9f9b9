use bollard::errors::Error;

use super::{is_done_already, refusal};
use crate::driver::DriverError;

fn answer(status_code: u16, message: &str) -> Error {
    Error::DockerResponseServerError {
        status_code,
        message: message.to_owned(),
    }
}

#[test]
fn a_missing_program_is_named() {
    let error = answer(
        400,
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"nope\": executable file not found in $PATH: unknown",
    );
    let error = refusal("container", &error);
    assert_eq!(
        error.to_string(),
        "program 'nope' in the image not found",
        "{error:?}"
    );
}

#[test]
fn a_full_disk_may_have_room_later() {
    let error = refusal(
        "container",
        &answer(500, "write /x: no space left on device"),
    );
    assert!(error.is_transient(), "{error:?}");
}

#[test]
fn an_engine_that_does_not_answer_is_not_the_jobs_fault() {
    let error = refusal("container", &Error::RequestTimeoutError);
    assert!(matches!(error, DriverError::Unavailable { .. }));
}

#[test]
fn what_the_engine_does_not_take_says_why() {
    let error = refusal("container", &answer(400, "invalid mount"));
    assert_eq!(error.to_string(), "container: invalid mount");
}

#[test]
fn what_is_done_already_is_no_error() {
    for (status, message) in [
        (304, ""),
        (404, "No such container: x"),
        (409, "removal of container x is already in progress"),
    ] {
        assert!(is_done_already(&answer(status, message)));
    }
    assert!(!is_done_already(&answer(409, "conflict")));
}
