//! The kinds of infrastructure, spelled as Prefect spells work pool types.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A work pool type that this project has a driver for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// Local subprocesses.
    Process,
    /// Docker containers.
    Docker,
    /// Kubernetes jobs.
    Kubernetes,
}

/// A work pool type that no driver of this project serves.
#[derive(Debug, thiserror::Error)]
#[error(
    "work pool type '{0}' is not served by this worker; it serves process, docker and kubernetes"
)]
pub struct UnknownKind(pub String);

// === impl DriverKind ===

impl DriverKind {
    /// The spelling on the wire and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// Reads the type out of a pool's name (`docker-pool`, `k8s-prod`, `process-1`), for pools that do not exist yet.
    ///
    /// Only whole words count, split at anything that is not a letter or digit; two different types in one name are no answer.
    pub fn guess_from_name(name: &str) -> Option<Self> {
        let mut found = name
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter_map(|word| match word.to_ascii_lowercase().as_str() {
                "process" | "subprocess" | "local" => Some(Self::Process),
                "docker" => Some(Self::Docker),
                "kubernetes" | "k8s" | "kube" => Some(Self::Kubernetes),
                _ => None,
            });
        let first = found.next()?;
        found.all(|other| other == first).then_some(first)
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DriverKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "process" => Ok(Self::Process),
            "docker" => Ok(Self::Docker),
            "kubernetes" => Ok(Self::Kubernetes),
            other => Err(UnknownKind(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
