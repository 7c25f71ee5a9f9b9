//! Pulls from blob stores that are not ours: moto, which is S3, and Azurite, which is Azure. Google Cloud Storage answers
//! as S3 does to what is asked of it here, so moto stands in for it.
//!
//! `tests/servers/set-up` installs them; without them these tests fail. `faults` stands between and breaks things.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests own the tasks that they start, and end with them"
)]

mod azure;
mod broken;
mod corpus;
mod faults;
mod gcs;
#[path = "../git/server.rs"]
#[expect(dead_code, reason = "the tests of git use more of it")]
mod git_server;
mod s3;
mod secrets;
mod servers;
