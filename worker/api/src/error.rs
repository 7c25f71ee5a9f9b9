//! What can come of a call, sorted by what a caller can do about it.
//!
//! Which answer becomes which error is decided in `request`; this file holds the kinds and their words.

use std::{fmt, time::Duration};

use thiserror::Error;

/// Why a call did not give what was asked for.
///
/// `what` names the call: its method, its path without query, and the server. No text here carries a credential.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApiError {
    /// The server has no such thing. It may have been deleted.
    #[error("{what}: not found{}", Tail(detail))]
    NotFound {
        /// The call.
        what: String,
        /// The server's own words, shortened; may be empty.
        detail: String,
    },
    /// The server does not accept the credential, or wants one (401, 403). Only a person can change that.
    #[error("{what}: refused with status {status}{}; {}", Tail(detail), credential.advice())]
    Unauthorized {
        /// The call.
        what: String,
        /// 401 or 403.
        status: u16,
        /// The credential that was sent.
        credential: Credential,
        /// The server's own words, shortened; may be empty.
        detail: String,
    },
    /// Something of this name exists already, or the thing is in no state for this (409).
    #[error("{what}: conflicts with what is there{}", Tail(detail))]
    Conflict {
        /// The call.
        what: String,
        /// The server's own words, shortened; may be empty.
        detail: String,
    },
    /// The server does not accept the request (422, 400 and the rest of 4xx). The same request will not get better.
    #[error("{what}: not accepted{}", Tail(detail))]
    Invalid {
        /// The call.
        what: String,
        /// The server's own words, shortened.
        detail: String,
    },
    /// The server wants fewer requests (429), also after the retries.
    #[error("{what}: too many requests{}", retry_advice(*retry_after))]
    RateLimited {
        /// The call.
        what: String,
        /// How long the server wants to be left alone, if it said.
        retry_after: Option<Duration>,
    },
    /// The server says that it is being maintained. It is not counted as a failure by those who watch its health.
    #[error("{what}: the server is under maintenance{}", retry_advice(*retry_after))]
    Maintenance {
        /// The call.
        what: String,
        /// How long the server wants to be left alone, if it said.
        retry_after: Option<Duration>,
    },
    /// No usable answer, also after the retries: 5xx, 408, no connection, or none in time. What was asked for may or may not have
    /// been done.
    #[error("{what}: unavailable: {reason}")]
    Unavailable {
        /// The call.
        what: String,
        /// What was seen.
        reason: String,
    },
    /// An answer that is longer than can be read. Asking for less may help.
    #[error("{what}: the answer is longer than {limit} MiB")]
    TooLong {
        /// The call.
        what: String,
        /// How long an answer may be, in MiB.
        limit: usize,
    },
    /// An answer that makes no sense: not JSON, not the expected shape, a redirect elsewhere.
    #[error("{what}: unexpected answer: {reason}")]
    Unexpected {
        /// The call.
        what: String,
        /// What was expected and what came.
        reason: String,
    },
}

/// Which credential a request carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// None.
    None,
    /// The API key.
    Key,
    /// The auth string, by basic authentication.
    AuthString,
    /// An `Authorization` among the custom headers.
    CustomHeader,
    /// User and password in the API URL.
    Url,
}

/// The server's words behind a colon, or nothing.
struct Tail<'a>(&'a str);

// === impl ApiError ===

impl ApiError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. } | Self::Maintenance { .. } | Self::Unavailable { .. }
        )
    }

    /// Whether the error says nothing about what was asked for: an outage, a credential that was refused, a proxy that answers for the
    /// server. What must not be given up is worth another try, if only because a person may have mended it.
    pub fn may_pass(&self) -> bool {
        self.is_transient()
            || matches!(
                self,
                Self::Unauthorized { .. } | Self::Unexpected { .. } | Self::TooLong { .. }
            )
    }

    /// Whether the server has no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether something of that name exists already.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// How long the server wants to be left alone, if it said.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Maintenance { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }
}

// === impl Credential ===

impl Credential {
    /// What to check when the server refuses it.
    fn advice(self) -> &'static str {
        match self {
            Self::None => {
                "no credential was sent: set PREFECT_API_KEY (Prefect Cloud) or PREFECT_API_AUTH_STRING (own server)"
            }
            Self::Key => {
                "the API key was sent: check that PREFECT_API_KEY is valid and may use this workspace"
            }
            Self::AuthString => {
                "the auth string was sent: check that PREFECT_API_AUTH_STRING is the server's"
            }
            Self::CustomHeader => {
                "the custom header Authorization was sent: check PREFECT_CLIENT_CUSTOM_HEADERS"
            }
            Self::Url => "the user and password of the API URL were sent: check PREFECT_API_URL",
        }
    }
}

// === impl Tail ===

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.0)
        }
    }
}

fn retry_advice(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(delay) => format!("; asked to wait {} s", delay.as_secs()),
        None => String::new(),
    }
}
