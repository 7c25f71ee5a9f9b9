//! The program with a real cluster: what people see of flow runs whose Jobs end in all the ways that Jobs end.
//!
//! `WORKER_TEST_KUBECONFIG` or `KUBECONFIG` says where the cluster is; what reaches an API on loopback has to run on this machine. One test needs a
//! real Prefect as well.

mod beside;
mod cluster_api;
#[path = "../live/compare.rs"]
mod compare;
mod doctor;
mod endings;
#[path = "../live/expected.rs"]
mod expected;
mod kills;
mod pulled;
mod stage;
#[path = "../live/story.rs"]
mod story;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_worker-under-test");
