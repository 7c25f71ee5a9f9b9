//! The Helm chart: every value does what it says, what it makes is safe to run, and what cannot work is said before it is installed.
//!
//! `WORKER_TEST_HELM` says which Helm; `tests/helm/set-up` fetches one. Where there is a cluster, the chart is installed there.

mod chart;
#[cfg(feature = "kubernetes-cluster")]
mod install;
mod mistakes;
mod safety;
#[cfg(feature = "kubernetes-cluster")]
mod takeover;
mod values;
