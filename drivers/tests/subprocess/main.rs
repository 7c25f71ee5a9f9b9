//! The subprocess driver with real processes.

mod control;
mod hooks;
mod subject;
mod supervision;

use subject::SubprocessSubject;

async fn subject() -> SubprocessSubject {
    SubprocessSubject::new()
}

mod conformance {
    use super::subject;

    worker_drivers::driver_conformance!(subject);
}
