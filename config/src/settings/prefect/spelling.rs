//! The values of Prefect's settings: what they may be, and how the reference writes them into a job's environment.

use std::path::{Component, Path as FilePath, PathBuf};

use serde_json::Value;

use crate::{
    lenient::{flag, object_of_texts, real, status_codes, texts, whole},
    python,
};

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

fn codes(value: &Value) -> Option<String> {
    let codes = status_codes(value)?;
    Some(sorted(codes.iter().map(u16::to_string).collect()))
}

fn names(value: &Value) -> Option<String> {
    texts(value).map(sorted)
}

fn sorted(mut texts: Vec<String>) -> String {
    texts.sort_unstable();
    texts.dedup();
    texts.join(",")
}

fn headers(value: &Value) -> Option<String> {
    let fields = object_of_texts(value)?;
    let fields = fields
        .into_iter()
        .map(|(name, value)| (name, Value::String(value)));
    Some(python::json(&fields.collect()))
}
