//! The program with a real cluster: what people see of flow runs whose Jobs end in all the ways that Jobs end.
//!
//! `WORKER_TEST_KUBECONFIG` or `KUBECONFIG` says where the cluster is; what reaches an API on loopback has to run on this machine.

mod doctor;
mod endings;
mod stage;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_worker-under-test");
