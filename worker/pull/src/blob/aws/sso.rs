//! Single sign-on: the session that a person began with `aws sso login`.

use std::path::PathBuf;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Asker, Lender, Lent, Profile};
use crate::blob::fault::{Fault, Kind};

/// A profile that signs on.
#[derive(Debug)]
pub(super) struct SignOn {
    start_url: String,
    account: String,
    role: String,
    portal: String,
    cache: PathBuf,
    asker: Asker,
}

/// A session as Amazon's command line keeps it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    start_url: String,
    access_token: String,
    expires_at: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    role_credentials: RoleCredentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleCredentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    /// Milliseconds since 1970.
    expiration: i64,
}

// === impl SignOn ===

impl SignOn {
    /// Nothing if the profile does not sign on.
    pub(super) fn of(profile: &Profile, asker: &Asker) -> Result<Option<Self>, Fault> {
        let (Some(account), Some(role)) = (
            profile.find("sso_account_id"),
            profile.find("sso_role_name"),
        ) else {
            return Ok(None);
        };
        let start_url = profile
            .find("sso_start_url")
            .ok_or_else(|| profile.has_nothing())?;
        let region = profile
            .find("sso_region")
            .unwrap_or_else(|| asker.region.clone());
        let portal = asker
            .ambient
            .find("AWS_ENDPOINT_URL_SSO")
            .unwrap_or_else(|| format!("https://portal.sso.{region}.amazonaws.com"));
        Ok(Some(Self {
            start_url,
            account,
            role,
            portal,
            cache: asker.ambient.expand("~/.aws/sso/cache"),
            asker: asker.clone(),
        }))
    }

    /// The session's token. Its file is named by a hash; looking into the few there are needs none.
    fn find_token(&self) -> Option<String> {
        let files = std::fs::read_dir(&self.cache).ok()?;
        files
            .filter_map(|file| std::fs::read(file.ok()?.path()).ok())
            .filter_map(|text| serde_json::from_slice::<Session>(&text).ok())
            .find(|session| {
                let same =
                    session.start_url.trim_end_matches('/') == self.start_url.trim_end_matches('/');
                same && session.expires_at > Timestamp::now()
            })
            .map(|session| session.access_token)
    }
}

#[async_trait]
impl Lender for SignOn {
    async fn lend(&self) -> Result<Lent, Fault> {
        let denied = |reason: &str| Fault::new(Kind::Denied, reason);
        let token = self.find_token().ok_or_else(|| {
            denied("the AWS single sign-on session has ended; `aws sso login` begins another")
        })?;
        let response = self
            .asker
            .client
            .get(format!("{}/federation/credentials", self.portal))
            .query(&[("account_id", &self.account), ("role_name", &self.role)])
            .header("x-amz-sso_bearer_token", token)
            .send()
            .await
            .map_err(|_| Fault::transient("AWS single sign-on does not answer"))?;
        if !response.status().is_success() {
            return Err(denied(&format!(
                "AWS single sign-on answered {}",
                response.status()
            )));
        }
        let answer: Answer = response
            .json()
            .await
            .map_err(|_| denied("AWS single sign-on gave no credentials"))?;
        let RoleCredentials {
            access_key_id,
            secret_access_key,
            session_token,
            expiration,
        } = answer.role_credentials;
        Ok(Lent {
            key_id: access_key_id,
            secret_key: secret_access_key,
            token: Some(session_token),
            until: Timestamp::from_millisecond(expiration).ok(),
        })
    }
}
