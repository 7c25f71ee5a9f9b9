use kube::core::Status;

use super::refused;
use crate::driver::DriverError;

fn said(code: u16, reason: &str, message: &str) -> DriverError {
    let status = Status::failure(message, reason).with_code(code);
    refused(&kube::Error::Api(status.boxed()), "the job 'a'")
}

#[test]
fn a_refusal_says_what_can_be_done_about_it() {
    let quota = said(
        403,
        "Forbidden",
        "jobs.batch \"a\" is forbidden: exceeded quota: jobs, requested: count/jobs.batch=1",
    );
    assert!(matches!(quota, DriverError::Quota { .. }), "{quota:?}");
    let busy = said(429, "TooManyRequests", "later");
    assert!(matches!(busy, DriverError::Quota { .. }), "{busy:?}");
    let denied = said(
        403,
        "Forbidden",
        "jobs.batch is forbidden: User cannot create",
    );
    assert!(matches!(denied, DriverError::Denied { .. }), "{denied:?}");
    let wrong = said(422, "Invalid", "spec.template: Invalid value");
    assert!(matches!(wrong, DriverError::Invalid { .. }), "{wrong:?}");
    let nowhere = said(404, "NotFound", "namespaces \"gone\" not found");
    assert!(
        matches!(nowhere, DriverError::NotFound { .. }),
        "{nowhere:?}"
    );
    assert!(nowhere.to_string().contains("\"gone\""), "{nowhere}");
    let ill = said(500, "InternalError", "etcd is away");
    assert!(ill.is_transient(), "{ill:?}");
}
