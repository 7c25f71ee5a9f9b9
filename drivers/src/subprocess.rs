//! Local subprocesses. (Skeleton.)

/// Skeleton.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The attempt.
    pub key: crate::job::RunKey,
}
