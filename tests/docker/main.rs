//! The program with a real engine: what people see of flow runs whose containers end in all the ways that containers end.
//!
//! `WORKER_TEST_DOCKER_HOST` says where the engine is; `tests/docker/engine start` starts one. One test needs a real Prefect as well.

mod endings;
mod prefect;
mod stage;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_worker-under-test");
