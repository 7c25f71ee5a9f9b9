//! The program with a real engine: what people see of flow runs whose containers end in all the ways that containers end.
//!
//! `WORKER_TEST_DOCKER_HOST` says where the engine is; `tests/docker/engine start` starts one. One test needs a real Prefect as well.

mod beside;
#[path = "../live/compare.rs"]
mod compare;
mod endings;
#[path = "../live/expected.rs"]
mod expected;
mod flow_image;
mod gate;
mod helper;
mod kills;
mod left_behind;
mod outages;
mod own_engine;
mod pages;
mod prefect;
mod pulled;
mod secrets;
mod stage;
#[path = "../live/story.rs"]
mod story;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_worker-under-test");
