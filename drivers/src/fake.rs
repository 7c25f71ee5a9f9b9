//! A scripted driver, for tests.
/// What a fake job is planned as.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The attempt.
    pub key: crate::job::RunKey,
}
