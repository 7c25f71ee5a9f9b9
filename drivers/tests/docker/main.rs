//! The Docker driver on a real engine.
//!
//! `WORKER_TEST_DOCKER_HOST` says where the engine is; `tests/docker/engine start` starts one that has the image these tests use. They fail without: who
//! wants them turns on the feature `docker-engine`.

mod containers;
mod reach;
mod registry;
mod subject;

use subject::DockerSubject;

async fn subject() -> DockerSubject {
    DockerSubject::new()
}

mod conformance {
    use super::subject;

    worker_drivers::driver_conformance!(subject);
}
