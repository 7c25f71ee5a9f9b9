//! The program with the control plane of a cluster that has no nodes: pods are played, and what lies between the worker and its cluster fails on order.
//!
//! `tests/kubernetes/cluster control` starts one; `WORKER_TEST_CONTROL_KUBECONFIG` says where it is, and `WORKER_TEST_HELM` which Helm renders the
//! chart's Role.

mod clusters;
mod endings;
mod events;
mod faults;
mod registry;
mod rights;
mod stage;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_worker-under-test");
