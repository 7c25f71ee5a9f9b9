//! Why a request is refused, and how that reads on the wire.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// Why a request is refused. Texts are those of the reference, so that clients which compare them keep working.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such thing: 404.
    #[error("{0}")]
    NotFound(String),
    /// There is no such flow run to orchestrate: 404, with the body of an exception.
    #[error("{0}")]
    Missing(String),
    /// It contradicts what is stored: 409.
    #[error("{0}")]
    Conflict(String),
    /// It may not be done: 403.
    #[error("{0}")]
    Forbidden(String),
    /// It makes no sense: 422.
    #[error("{0}")]
    Unprocessable(String),
    /// It makes no sense: 400.
    #[error("{0}")]
    Bad(String),
    /// It is over: 410.
    #[error("{0}")]
    Gone(String),
    /// There is no slot: 423. Seconds after which it makes sense to ask again.
    #[error("no slot is free")]
    Locked(f64),
    /// The body is not what the route takes: 422, with the place.
    #[error("{msg} at {loc:?}")]
    Body {
        /// The reference's name for the kind of error.
        kind: &'static str,
        /// The path to what is wrong.
        loc: Vec<Value>,
        /// What is wrong.
        msg: String,
    },
    /// The database refused: 503 when it is busy, else 500.
    #[error("the database refused")]
    Database(#[from] rusqlite::Error),
    /// What is stored cannot be read: 500.
    #[error("stored JSON cannot be read")]
    Stored(#[from] serde_json::Error),
    /// The transaction was not committed, or the server is stopping: 503.
    #[error("the database is not to be had at present")]
    Unavailable,
    /// A command panicked; it was rolled back: 500.
    #[error("a command failed")]
    Panicked,
}

// === impl Error ===

impl Error {
    /// There is no such thing.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound(what.into())
    }

    /// A field that has the wrong value.
    pub(crate) fn field(loc: &[&str], msg: impl Into<String>) -> Self {
        let loc = std::iter::once("body").chain(loc.iter().copied());
        Self::Body {
            kind: "value_error",
            loc: loc.map(Value::from).collect(),
            msg: msg.into(),
        }
    }

    /// Whether the cause is here, and not in the request.
    fn is_ours(&self) -> bool {
        matches!(self, Self::Database(_) | Self::Stored(_) | Self::Panicked)
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) | Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Unprocessable(_) | Self::Body { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Gone(_) => StatusCode::GONE,
            Self::Locked(_) => StatusCode::LOCKED,
            Self::Database(error) if is_busy(error) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(_) | Self::Stored(_) | Self::Panicked => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    fn body(&self) -> Value {
        match self {
            Self::NotFound(text)
            | Self::Conflict(text)
            | Self::Forbidden(text)
            | Self::Unprocessable(text)
            | Self::Bad(text)
            | Self::Gone(text) => json!({ "detail": text }),
            Self::Locked(_) => json!({ "detail": "Locked" }),
            Self::Missing(text) => json!({ "exception_message": text }),
            Self::Body { kind, loc, msg } => json!({
                "exception_message": "Invalid request received.",
                "exception_detail": [{ "type": kind, "loc": loc, "msg": msg }],
            }),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => {
                json!({ "exception_message": "Service Unavailable" })
            }
            _ => json!({ "exception_message": "Internal Server Error" }),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if self.is_ours() {
            let cause = std::error::Error::source(&self).map(ToString::to_string);
            tracing::error!(error = %self, cause, "request failed");
        }
        let answer = (self.status(), Json(self.body()));
        match self {
            Self::Locked(seconds) => {
                ([(header::RETRY_AFTER, seconds.to_string())], answer).into_response()
            }
            _ => answer.into_response(),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}
