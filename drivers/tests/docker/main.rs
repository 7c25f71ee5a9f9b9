//! The Docker driver on a real engine.
//!
//! `WORKER_TEST_DOCKER_HOST` says where the engine is; `tests/docker/engine` starts one that has the image these tests use. Without it they fail: they are
//! asked for by name.

mod subject;

use subject::DockerSubject;

async fn subject() -> DockerSubject {
    DockerSubject::new()
}

mod conformance {
    use super::subject;

    worker_drivers::driver_conformance!(subject);
}
