//! What this worker's operator allows a job to ask for.

use serde::Deserialize;

/// The operator's limits, applied to a job before any side effect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Whether a job may bring a command of its own instead of the flow's entrypoint.
    pub allow_command: bool,
    /// Whether `{{ $NAME }}` in a template or in job variables may read the worker's environment, as the reference
    /// allows. It hands the worker's secrets to everyone who can edit a deployment, so it can be turned off.
    pub allow_environment_placeholders: bool,
    /// Whether a subprocess job starts from the worker's whole environment, as the reference does.
    pub inherit_environment: bool,
}

// === impl Policy ===

impl Default for Policy {
    fn default() -> Self {
        Self {
            allow_command: true,
            allow_environment_placeholders: true,
            inherit_environment: true,
        }
    }
}

#[cfg(test)]
mod tests;
