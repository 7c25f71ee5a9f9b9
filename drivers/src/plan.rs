//! What an engine will be asked for: one variant per driver, plain data, compared whole in tests.

use crate::{docker, job::RunKey, kubernetes, subprocess};

/// The plan of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// A local subprocess.
    Subprocess(subprocess::Plan),
    /// A Docker container.
    Docker(Box<docker::Plan>),
    /// A Kubernetes Job.
    Kubernetes(Box<kubernetes::Plan>),
    /// The scripted driver's.
    #[cfg(any(test, feature = "conformance"))]
    Fake(crate::fake::Plan),
}

// === impl Plan ===

impl Plan {
    /// The attempt it is for.
    pub fn key(&self) -> RunKey {
        match self {
            Self::Subprocess(plan) => plan.key,
            Self::Docker(plan) => plan.key,
            Self::Kubernetes(plan) => plan.key,
            #[cfg(any(test, feature = "conformance"))]
            Self::Fake(plan) => plan.key,
        }
    }
}
