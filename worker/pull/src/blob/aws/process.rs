//! A program that prints credentials: `credential_process` of a profile.

use std::process::Stdio;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::process::Command;

use super::{Lender, Lent, Profile};
use crate::blob::fault::{Fault, Kind};

/// The program, as its owner wrote it in the profile.
#[derive(Debug)]
pub(super) struct Program {
    profile: String,
    words: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<Timestamp>,
}

// === impl Program ===

impl Program {
    pub(super) fn of(profile: &Profile) -> Option<Self> {
        let words = shlex::split(&profile.find("credential_process")?)?;
        Some(Self {
            profile: profile.name().to_owned(),
            words,
        })
    }
}

#[async_trait]
impl Lender for Program {
    async fn lend(&self) -> Result<Lent, Fault> {
        let failed = |what: &str| {
            let reason = format!(
                "the credential program of the AWS profile {} {what}",
                self.profile
            );
            Fault::new(Kind::Denied, reason)
        };
        let (program, arguments) = self
            .words
            .split_first()
            .ok_or_else(|| failed("has no name"))?;
        let output = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            // It may say anything there, secrets too.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|_| failed("cannot be run"))?;
        if !output.status.success() {
            return Err(failed("failed"));
        }
        let printed: Printed = serde_json::from_slice(&output.stdout)
            .ok()
            .filter(|printed: &Printed| printed.version == 1)
            .ok_or_else(|| failed("printed no credentials"))?;
        let Printed {
            version: _,
            access_key_id,
            secret_access_key,
            session_token,
            expiration,
        } = printed;
        Ok(Lent {
            key_id: access_key_id,
            secret_key: secret_access_key,
            token: session_token,
            until: expiration,
        })
    }
}
