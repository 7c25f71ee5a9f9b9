//! Credentials of repositories: what each hosting wants as user and password, from the many ways in which people give them.
//!
//! Pure. Where they may be sent is decided in `http`.

use serde_json::{Map, Value};
use worker_config::Secret;

/// A user and a password, as HTTP's basic authentication has them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(super) user: String,
    pub(super) password: Secret,
}

/// Why credentials cannot be used. It names no values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Both ways to give them were used.
    #[error("give either 'access_token' or 'credentials', not both")]
    Twice,
    /// There is a user, and nothing to prove it.
    #[error("the credentials have a username but neither a token nor a password")]
    NoPassword,
    /// A Bitbucket server wants both parts.
    #[error("a token for a Bitbucket server must be written as 'username:token'")]
    NoUser,
    /// What was given is no block and no mapping.
    #[error(
        "'credentials' must be a block of a git hosting, or a mapping with 'username', 'password' or 'token'"
    )]
    NotAMapping,
}

/// The user that stands beside a token where the hosting does not look at it.
const ANY_USER: &str = "x-access-token";

// === impl Credentials ===

impl Credentials {
    /// A user and a password.
    pub fn new(user: impl Into<String>, password: Secret) -> Self {
        Self {
            user: user.into(),
            password,
        }
    }

    /// A token that stands alone, where a URL has its user.
    pub(super) fn lone(token: String) -> Self {
        Self::new(token, Secret::default())
    }

    /// Whether it is a name in a URL that says who, and proves nothing: `https://org@host/` is how some hostings write their addresses.
    pub fn is_only_a_user(&self) -> bool {
        self.password.is_empty()
    }

    /// From the inputs of a step: a token, or a credentials block, of which `block_type` is known when it came by reference.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn from_inputs(
        host: &str,
        token: Option<&str>,
        block: Option<&Value>,
        block_type: Option<&str>,
    ) -> Result<Option<Self>, CredentialsError> {
        let given = |value: &&Value| !value.is_null();
        match (token, block.filter(given)) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(CredentialsError::Twice),
            (Some(token), None) => of_token(Hosting::of(host, None), token).map(Some),
            (None, Some(Value::Object(fields))) => {
                from_block(Hosting::of(host, block_type), fields)
            }
            (None, Some(_)) => Err(CredentialsError::NotAMapping),
        }
    }
}

impl std::fmt::Debug for Credentials {
    /// Nothing: a token may stand where the user is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Whose rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hosting {
    GitLab,
    Bitbucket,
    BitbucketServer,
    AzureDevOps,
    Other,
}

// === impl Hosting ===

impl Hosting {
    /// The block's type says it, else the host's name, as in the reference.
    fn of(host: &str, block_type: Option<&str>) -> Self {
        let host = host.to_ascii_lowercase();
        match block_type {
            Some("gitlab-credentials") => Self::GitLab,
            Some("bitbucket-credentials") if host.contains("bitbucketserver") => {
                Self::BitbucketServer
            }
            Some("bitbucket-credentials") => Self::Bitbucket,
            Some("azuredevops-credentials") => Self::AzureDevOps,
            Some("github-credentials") => Self::Other,
            _ if host.contains("bitbucketserver") => Self::BitbucketServer,
            _ if host.contains("bitbucket") => Self::Bitbucket,
            _ if host.contains("gitlab") => Self::GitLab,
            _ if host == "dev.azure.com" || host.ends_with(".visualstudio.com") => {
                Self::AzureDevOps
            }
            _ => Self::Other,
        }
    }
}

// === functions ===

fn from_block(
    hosting: Hosting,
    fields: &Map<String, Value>,
) -> Result<Option<Credentials>, CredentialsError> {
    let text = |name: &str| {
        fields
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let proof = ["access_token", "token", "password"]
        .into_iter()
        .find_map(text);
    match (text("username"), proof) {
        (Some(_), None) => Err(CredentialsError::NoPassword),
        (Some(user), Some(proof)) => Ok(Some(Credentials::new(user, Secret::new(proof)))),
        (None, Some(proof)) => of_token(hosting, proof).map(Some),
        (None, None) => Ok(None),
    }
}

/// A token may bring its user along, before a colon; deploy tokens do.
fn of_token(hosting: Hosting, token: &str) -> Result<Credentials, CredentialsError> {
    let token = token.trim();
    if let Some((user, token)) = token.split_once(':') {
        return Ok(Credentials::new(user, Secret::new(token)));
    }
    let user = match hosting {
        Hosting::GitLab => "oauth2",
        Hosting::Bitbucket => "x-token-auth",
        Hosting::BitbucketServer => return Err(CredentialsError::NoUser),
        Hosting::AzureDevOps => "",
        Hosting::Other => ANY_USER,
    };
    Ok(Credentials::new(user, Secret::new(token)))
}

#[cfg(test)]
mod tests;
