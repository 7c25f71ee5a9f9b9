//! The GitHub App of Prefect Cloud: tokens for single repositories. They belong to the account, whatever the workspace.

use serde::Deserialize;
use serde_json::json;
use worker_config::Secret;

use crate::{ApiError, Client, request::Call};

#[derive(Deserialize)]
struct Answer {
    token: Secret,
}

// === impl Client ===

impl Client {
    /// Makes a token that reads one repository, for an hour at most.
    ///
    /// `POST {account}/integrations/github/token` of Prefect Cloud: 200; an error where the app is not installed for the repository. As
    /// `prefect-cloud github token` asks for it; never tried on the real one.
    pub async fn create_github_token(
        &self,
        owner: &str,
        repository: &str,
    ) -> Result<Secret, ApiError> {
        let call = Call::post(&["integrations", "github", "token"])
            .json(&json!({"owner": owner, "repository": repository}));
        let answer: Answer = self.fetch(call.of_account().confidential()).await?;
        Ok(answer.token)
    }
}
