//! What is wrong with what people wrote.

use std::fmt;

/// One thing that is wrong: where it was written, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    /// The file and key, the variable, or the flag.
    pub place: String,
    /// What would be right, and what it is instead unless that is a secret.
    pub problem: String,
}

/// Everything that is wrong, at once; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

// === impl ConfigError ===

impl ConfigError {
    pub(super) fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            problem: problem.into(),
        }
    }
}

// === impl ConfigErrors ===

impl fmt::Display for ConfigErrors {
    /// One error on the same line, several on a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return write!(f, "configuration: {only}");
        }
        write!(f, "configuration: {} errors", self.0.len())?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}
