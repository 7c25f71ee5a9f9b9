//! What went wrong with one request, and whether trying again may help. Pure.

use std::error::Error;

use http::{HeaderMap, StatusCode};
use object_store::client::{HttpError, HttpErrorKind};
use quick_xml::{Reader, events::Event};

/// As much of what a server says as is told on.
const MAX_REASON: usize = 300;

/// Why a request did not do what it was for. Its reason has no address in it and came out of no credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) reason: String,
}

/// What a fault means for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is not there.
    NotFound,
    /// The credentials do not let in.
    Denied,
    /// It may get better.
    Transient,
    /// It stays as it is.
    Permanent,
    /// The bucket is in this region, and another one was asked.
    Elsewhere(String),
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        let reason = shorten(&reason.into());
        Self { kind, reason }
    }

    pub(super) fn permanent(reason: impl Into<String>) -> Self {
        Self::new(Kind::Permanent, reason)
    }

    pub(super) fn transient(reason: impl Into<String>) -> Self {
        Self::new(Kind::Transient, reason)
    }

    /// Whether another try may help.
    pub(super) fn may_pass(&self) -> bool {
        self.kind == Kind::Transient
    }

    /// Judges an answer that is not a success.
    pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let said = Said::read(headers, body);
        let region = headers
            .get("x-amz-bucket-region")
            .and_then(|region| region.to_str().ok());
        let kind = match status.as_u16() {
            301 | 307 | 400 | 403 if region.is_some() && said.is_about_region(status) => {
                Kind::Elsewhere(region.unwrap_or_default().to_owned())
            }
            404 | 410 => Kind::NotFound,
            401 | 403 => Kind::Denied,
            400 if said.is_about_credentials() => Kind::Denied,
            501 | 505 => Kind::Permanent,
            408 | 409 | 425 | 429 | 500.. => Kind::Transient,
            400 if said.code == "RequestTimeout" => Kind::Transient,
            _ => Kind::Permanent,
        };
        let reason = match (said.code.as_str(), said.message.as_str()) {
            ("", _) if status.is_redirection() => {
                "the server points to another place, where credentials are not sent".to_owned()
            }
            ("", _) => format!("the server answered {status}"),
            (code, "") => format!("the server answered {} {code}", status.as_u16()),
            (code, message) => format!("the server answered {} {code}: {message}", status.as_u16()),
        };
        Self::new(kind, reason)
    }

    /// Judges a request that had no whole answer.
    pub(super) fn of_connection(error: &HttpError) -> Self {
        let reason = match error.kind() {
            HttpErrorKind::Timeout => "nothing arrived for too long".to_owned(),
            HttpErrorKind::Connect => format!("no connection came about: {}", innermost(error)),
            _ => format!("the connection broke: {}", innermost(error)),
        };
        Self::transient(reason)
    }

    /// Judges what `object_store` says where no answer was seen: then it failed before it asked, at the credentials for instance.
    pub(super) fn of_store(error: &object_store::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(fault) = error.downcast_ref::<Self>() {
                return fault.clone();
            }
            if let Some(error) = error.downcast_ref::<HttpError>() {
                return Self::of_connection(error);
            }
            cause = error.source();
        }
        match error {
            object_store::Error::NotFound { .. } => Self::new(Kind::NotFound, "it is not there"),
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => {
                Self::new(Kind::Denied, "no credentials could be had")
            }
            // The text of anything else may quote what it was about.
            _ => Self::new(Kind::Denied, "no credentials could be had"),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Error for Fault {}

/// So that a credential provider can tell through `object_store` what went wrong.
impl From<Fault> for object_store::Error {
    fn from(fault: Fault) -> Self {
        Self::Generic {
            store: "credentials",
            source: Box::new(fault),
        }
    }
}

// === what servers say ===

/// The code and the message of an error, as the S3 and Azure formats have them.
#[derive(Debug, Default)]
struct Said {
    code: String,
    message: String,
}

impl Said {
    fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        let mut said = Self::default();
        let mut reader = Reader::from_reader(body);
        while let Ok(event) = reader.read_event() {
            let tag = match event {
                Event::Start(tag) => tag,
                Event::Eof => break,
                _ => continue,
            };
            let field = match tag.local_name().as_ref() {
                b"Code" => &mut said.code,
                b"Message" => &mut said.message,
                _ => continue,
            };
            if let Ok(text) = reader.read_text(tag.name())
                && let Ok(text) = text.decode()
            {
                // Azure's has the request's id and time on further lines.
                text.lines().next().unwrap_or_default().clone_into(field);
            }
        }
        if let Some(code) = headers
            .get("x-ms-error-code")
            .and_then(|code| code.to_str().ok())
        {
            code.clone_into(&mut said.code);
        }
        said
    }

    fn is_about_credentials(&self) -> bool {
        [
            "ExpiredToken",
            "InvalidToken",
            "TokenRefreshRequired",
            "InvalidAccessKeyId",
            "InvalidAuthenticationInfo",
        ]
        .contains(&self.code.as_str())
    }

    fn is_about_region(&self, status: StatusCode) -> bool {
        status.is_redirection()
            || [
                "AuthorizationHeaderMalformed",
                "IllegalLocationConstraintException",
                "PermanentRedirect",
            ]
            .contains(&self.code.as_str())
    }
}

// === functions ===

fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// One line, and not too much of it.
fn shorten(reason: &str) -> String {
    let mut line: String = reason
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if let Some((cut, _)) = line.char_indices().nth(MAX_REASON) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests;
