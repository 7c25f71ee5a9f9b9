//! The values of Prefect's settings: what they may be, and how the reference writes them into a job's environment.

use std::path::{Component, Path as FilePath, PathBuf};

use serde_json::Value;

use crate::python;

/// What a setting holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::settings) enum Kind {
    /// True or false.
    Flag,
    /// A whole number.
    Whole,
    /// A number.
    Real,
    /// A text.
    Text,
    /// A text that must not be shown.
    Secret,
    /// A path.
    Path,
    /// A path in which `~` is the home.
    Home,
    /// A log level.
    Level,
    /// A set of HTTP status codes.
    Codes,
    /// A set of texts.
    Names,
    /// A JSON object of texts that must not be shown.
    Headers,
    /// Something of Prefect's server or tests that a worker only hands on.
    Loose,
}

const LEVELS: &[&str] = &["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

// === impl Kind ===

impl Kind {
    /// The kind of a name in the table of settings.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "flag" => Self::Flag,
            "whole" => Self::Whole,
            "real" => Self::Real,
            "text" => Self::Text,
            "secret" => Self::Secret,
            "path" => Self::Path,
            "home" => Self::Home,
            "level" => Self::Level,
            "codes" => Self::Codes,
            "names" => Self::Names,
            "headers" => Self::Headers,
            "loose" => Self::Loose,
            _ => return None,
        })
    }

    /// Writes a value as the reference does, or says what it must be.
    pub(super) fn spell(
        self,
        value: &Value,
        home: Option<&FilePath>,
    ) -> Result<String, &'static str> {
        match self {
            Self::Flag => flag(value)
                .map(|flag| python::str(&Value::Bool(flag)))
                .ok_or("must be true or false"),
            Self::Whole => whole(value)
                .map(|number| number.to_string())
                .ok_or("must be a whole number"),
            Self::Real => real(value)
                .map(python::str_of_float)
                .ok_or("must be a number"),
            Self::Text | Self::Secret => text(value).map(str::to_owned),
            Self::Path => text(value).map(|text| path(FilePath::new(text))),
            Self::Home => text(value).map(|text| match (text.strip_prefix('~'), home) {
                (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                    path(&home.join(rest.trim_start_matches('/')))
                }
                _ => path(FilePath::new(text)),
            }),
            Self::Level => {
                let level = text(value)?.to_uppercase();
                let known = LEVELS.contains(&level.as_str());
                known
                    .then_some(level)
                    .ok_or("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
            }
            Self::Codes => codes(value).ok_or("must be HTTP status codes, as in 404,500"),
            Self::Names => names(value).ok_or("must be texts, separated by commas"),
            Self::Headers => headers(value).ok_or("must be a JSON object of texts"),
            Self::Loose => Ok(match value {
                Value::Object(_) => python::json(value),
                Value::Array(items) => sorted(items.iter().map(python::str).collect()),
                other => python::str(other),
            }),
        }
    }
}

/// Reads a truth value as Pydantic does.
pub(in crate::settings) fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => match number.as_f64() {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        },
        Value::String(text) => match text.trim().to_lowercase().as_str() {
            "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
            "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Reads a whole number; one with a fraction of zero counts.
pub(in crate::settings) fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| from_real(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| from_real(text.parse().ok()?))
        }
        _ => None,
    }
}

fn from_real(number: f64) -> Option<i64> {
    // Up to here every whole number has a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "only a whole number in the range of i64 is cast"
    )]
    let whole = || number as i64;
    (number.fract() == 0.0 && number.abs() <= EXACT).then(whole)
}

/// Reads a number.
pub(in crate::settings) fn real(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn text(value: &Value) -> Result<&str, &'static str> {
    value.as_str().ok_or("must be a text")
}

/// Without doubled and trailing slashes and `.` on the way, as `pathlib` writes it.
fn path(path: &FilePath) -> String {
    let clean: PathBuf = path
        .components()
        .filter(|component| *component != Component::CurDir)
        .collect();
    if clean.as_os_str().is_empty() {
        return ".".to_owned();
    }
    clean.to_string_lossy().into_owned()
}

/// A list, or what a text holds: a JSON list, or items with commas between them.
fn items(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items.clone()),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(Value::Array(items)) => Some(items),
            _ if text.is_empty() => Some(Vec::new()),
            _ => Some(
                text.split(',')
                    .map(|item| Value::from(item.trim()))
                    .collect(),
            ),
        },
        Value::Number(_) => Some(vec![value.clone()]),
        _ => None,
    }
}

/// Reads HTTP status codes.
pub(in crate::settings) fn status_codes(value: &Value) -> Option<Vec<u16>> {
    let code = |item: &Value| {
        whole(item)
            .filter(|code| (100..=599).contains(code))
            .and_then(|code| u16::try_from(code).ok())
    };
    let mut codes: Vec<u16> = items(value)?.iter().map(code).collect::<Option<_>>()?;
    codes.sort_unstable();
    codes.dedup();
    Some(codes)
}

fn codes(value: &Value) -> Option<String> {
    let codes = status_codes(value)?;
    Some(sorted(codes.iter().map(u16::to_string).collect()))
}

/// Reads texts, each once and in the order they are written.
pub(in crate::settings) fn texts(value: &Value) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    for item in items(value)? {
        let text = item.as_str()?;
        if !texts.iter().any(|known| known == text) {
            texts.push(text.to_owned());
        }
    }
    Some(texts)
}

fn names(value: &Value) -> Option<String> {
    texts(value).map(sorted)
}

fn sorted(mut texts: Vec<String>) -> String {
    texts.sort_unstable();
    texts.dedup();
    texts.join(",")
}

/// Reads an object of texts, or a text that is one in JSON.
pub(in crate::settings) fn object_of_texts(value: &Value) -> Option<Vec<(String, String)>> {
    let parsed;
    let fields = match value {
        Value::Object(fields) => fields,
        Value::String(text) => {
            parsed = serde_json::from_str::<Value>(text).ok()?;
            parsed.as_object()?
        }
        _ => return None,
    };
    fields
        .iter()
        .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn headers(value: &Value) -> Option<String> {
    let fields = object_of_texts(value)?;
    let fields = fields
        .into_iter()
        .map(|(name, value)| (name, Value::String(value)));
    Some(python::json(&fields.collect()))
}
