//! Workload identity federation: Google's tokens for an identity that somebody else gave, which `object_store` does not know.
//!
//! The crate that has it, `reqsign-google`, brings an RSA with an open advisory. The identity is read from a file or an address; Amazon's and
//! a program's are refused with a reason.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use object_store::{
    CredentialProvider,
    gcp::{GcpCredential, GcpCredentialProvider},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use worker_config::secret::Secret;

use crate::blob::fault::{Fault, Kind};

/// What reading needs.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";

/// What the exchange is asked for: the cloud as a whole, as it only leads to the account that then limits it.
const EXCHANGE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Tokens are fetched anew this long before they end.
const MARGIN: SignedDuration = SignedDuration::from_secs(120);

/// An `external_account` of Google's credential files.
#[derive(Deserialize)]
struct Account {
    audience: String,
    subject_token_type: String,
    token_url: String,
    service_account_impersonation_url: Option<String>,
    credential_source: Origin,
}

/// Where the identity is.
#[derive(Deserialize)]
struct Origin {
    file: Option<PathBuf>,
    url: Option<String>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, Secret>,
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
    subject_token_field_name: Option<String>,
}

#[derive(Deserialize)]
struct Exchanged {
    access_token: Secret,
    expires_in: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: Secret,
    expire_time: Option<Timestamp>,
}

/// One who exchanges identities.
struct Federation {
    account: Account,
    client: reqwest::Client,
    present: Mutex<Option<(Arc<GcpCredential>, Timestamp)>>,
}

/// Instance metadata, which simply does not answer where there is none.
#[derive(Debug)]
struct Instance(GcpCredentialProvider);

// === impl Federation ===

impl Federation {
    async fn subject_token(&self) -> Result<Secret, Fault> {
        let origin = &self.account.credential_source;
        let text = match (&origin.file, &origin.url) {
            (Some(file), _) => std::fs::read_to_string(file).map_err(|_| {
                denied(format!("the identity in {} cannot be read", file.display()))
            })?,
            (None, Some(url)) => {
                let headers = origin.headers.iter();
                let request = headers.fold(self.client.get(url), |request, (name, value)| {
                    request.header(name, value.expose())
                });
                text(request, "the address of the identity").await?
            }
            (None, None) => {
                let reason = "the Google credentials take an identity from where this worker does not look: only files and addresses are known";
                return Err(denied(reason));
            }
        };
        let Some(format) = origin
            .format
            .as_ref()
            .filter(|format| format.kind == "json")
        else {
            return Ok(Secret::new(text.trim()));
        };
        let field = format
            .subject_token_field_name
            .as_deref()
            .unwrap_or("access_token");
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let token = value.get(field).and_then(Value::as_str);
        token
            .map(Secret::new)
            .ok_or_else(|| denied("the identity has no token where it is said to be"))
    }

    async fn exchange(&self) -> Result<(Secret, Timestamp), Fault> {
        let account = &self.account;
        let subject = self.subject_token().await?;
        let form = json!({
            "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
            "audience": account.audience,
            "scope": if account.service_account_impersonation_url.is_some() { EXCHANGE_SCOPE } else { SCOPE },
            "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
            "subjectTokenType": account.subject_token_type,
            "subjectToken": subject.expose(),
        });
        let answer = text(
            self.client.post(&account.token_url).json(&form),
            "Google's token exchange",
        )
        .await?;
        let exchanged: Exchanged = parse(&answer)?;
        let Some(url) = &account.service_account_impersonation_url else {
            let lasts = SignedDuration::from_secs(exchanged.expires_in.unwrap_or(3600));
            return Ok((exchanged.access_token, Timestamp::now() + lasts));
        };
        let request = self
            .client
            .post(url)
            .bearer_auth(exchanged.access_token.expose())
            .json(&json!({"scope": [SCOPE], "lifetime": "3600s"}));
        let answer = text(request, "impersonating the service account").await?;
        let Impersonated {
            access_token,
            expire_time,
        } = parse(&answer)?;
        let lasts = SignedDuration::from_secs(3600);
        Ok((
            access_token,
            expire_time.unwrap_or_else(|| Timestamp::now() + lasts),
        ))
    }
}

impl std::fmt::Debug for Federation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Federation").finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for Federation {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        let mut present = self.present.lock().await;
        if let Some((credential, until)) = &*present
            && Timestamp::now() < *until - MARGIN
        {
            return Ok(Arc::clone(credential));
        }
        let (token, until) = self.exchange().await?;
        let credential = Arc::new(GcpCredential {
            bearer: token.expose().to_owned(),
        });
        *present = Some((Arc::clone(&credential), until));
        Ok(credential)
    }
}

// === impl Instance ===

#[async_trait]
impl CredentialProvider for Instance {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        self.0.get_credential().await.map_err(|_| {
            denied("no Google credentials were found: none in the step or the environment, and no instance lends any").into()
        })
    }
}

// === functions ===

/// Who asks for an account that another identity provider vouches for.
pub(super) fn provider(
    value: &Value,
    client: &reqwest::Client,
) -> Result<GcpCredentialProvider, Fault> {
    let account = serde_json::from_value(value.clone())
        .map_err(|_| denied("the Google credentials of an external account are not complete"))?;
    Ok(Arc::new(Federation {
        account,
        client: client.clone(),
        present: Mutex::new(None),
    }))
}

/// Who asks the instance.
pub(super) fn instance(provider: GcpCredentialProvider) -> GcpCredentialProvider {
    Arc::new(Instance(provider))
}

async fn text(request: reqwest::RequestBuilder, what: &str) -> Result<String, Fault> {
    let silent = |_| Fault::transient(format!("{what} does not answer"));
    let response = request.send().await.map_err(silent)?;
    let status = response.status();
    if status.is_success() {
        return response.text().await.map_err(silent);
    }
    let kind = if status.is_server_error() {
        Kind::Transient
    } else {
        Kind::Denied
    };
    Err(Fault::new(kind, format!("{what} answered {status}")))
}

fn parse<'a, T: Deserialize<'a>>(answer: &'a str) -> Result<T, Fault> {
    serde_json::from_str(answer).map_err(|_| denied("Google gave no token"))
}

fn denied(reason: impl Into<String>) -> Fault {
    Fault::new(Kind::Denied, reason)
}
