//! Reads a request: its body as JSON with an error the reference's clients understand, and its path.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::request::Parts,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path as ErrorPath, Segment};

use crate::error::Error;

/// A body of JSON. No body at all counts as `{}`, because some clients send a filter that way.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

/// The parameters of a path. What is no identifier names nothing: 404, as in the reference.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

/// The arguments behind a path's question mark.
#[derive(Debug)]
pub(crate) struct Args<T>(pub(crate) T);

// === impl Body ===

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| Error::Body {
                kind: "body",
                loc: vec!["body".into()],
                msg: rejection.body_text(),
            })?;
        parse(&bytes).map(Self)
    }
}

// === impl Params ===

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        Path::from_request_parts(parts, state)
            .await
            .map(|Path(params)| Self(params))
            .map_err(|_| Error::not_found("Not Found"))
    }
}

// === impl Args ===

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Args<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        Query::from_request_parts(parts, state)
            .await
            .map(|Query(args)| Self(args))
            .map_err(|rejection| Error::Body {
                kind: "value_error",
                loc: vec!["query".into()],
                msg: rejection.body_text(),
            })
    }
}

/// Reads JSON, and says where it is wrong.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| located(error.path(), error.inner()))?;
    deserializer.end().map_err(|error| Error::Body {
        kind: "json_invalid",
        loc: vec!["body".into()],
        msg: error.to_string(),
    })?;
    Ok(value)
}

/// Reads a value that is already JSON.
pub(crate) fn parse_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|error| located(error.path(), error.inner()))
}

fn located(path: &ErrorPath, error: &serde_json::Error) -> Error {
    let mut loc = vec![Value::from("body")];
    for segment in path {
        match segment {
            Segment::Seq { index } => loc.push((*index).into()),
            Segment::Map { key } => loc.push(key.clone().into()),
            Segment::Enum { variant } => loc.push(variant.clone().into()),
            Segment::Unknown => {}
        }
    }
    let text = error.to_string();
    let quoted = || text.split('`').nth(1).map(Value::from);
    // Clients look at the kind and the place; the reference's texts are kept for the two that matter.
    let (kind, msg) = if text.starts_with("unknown field") {
        if loc.last() != quoted().as_ref() {
            loc.extend(quoted());
        }
        (
            "extra_forbidden",
            "Extra inputs are not permitted".to_owned(),
        )
    } else if text.starts_with("missing field") {
        loc.extend(quoted());
        ("missing", "Field required".to_owned())
    } else if error.is_syntax() || error.is_eof() {
        ("json_invalid", format!("JSON decode error: {text}"))
    } else {
        ("value_error", text)
    };
    Error::Body { kind, loc, msg }
}
