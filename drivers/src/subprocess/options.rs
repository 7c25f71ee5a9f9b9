//! The job configuration of a process pool, made typed.
//!
//! As lenient as the reference and no more: it reads its own fields, passes over others, and a wrong type is an error that names the field.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::driver::DriverError;

/// What a process pool's job configuration says, apart from what the worker has prepared from it already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) stream_output: bool,
    pub(super) working_dir: Option<PathBuf>,
}

// === impl Options ===

impl Options {
    /// Reads a configuration. The first field that is wrong is the error.
    pub(super) fn read(configuration: &Map<String, Value>) -> Result<Self, DriverError> {
        // These four reach the driver prepared, as parts of the job. Here they only have to be what they should.
        for field in ["command", "name"] {
            text(configuration, field)?;
        }
        object(configuration, "env", |_| true, "values")?;
        object(configuration, "labels", Value::is_string, "texts")?;
        Ok(Self {
            stream_output: switch(configuration, "stream_output", true)?,
            working_dir: text(configuration, "working_dir")?.map(PathBuf::from),
        })
    }
}

fn text<'a>(
    configuration: &'a Map<String, Value>,
    field: &str,
) -> Result<Option<&'a str>, DriverError> {
    match configuration.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(invalid(field, "a text or null", other)),
    }
}

fn object(
    configuration: &Map<String, Value>,
    field: &str,
    fits: impl Fn(&Value) -> bool,
    values: &str,
) -> Result<(), DriverError> {
    match configuration.get(field) {
        None => Ok(()),
        Some(Value::Object(entries)) => match entries.iter().find(|(_, value)| !fits(value)) {
            None => Ok(()),
            Some((name, value)) => Err(invalid(&format!("{field}.{name}"), "a text", value)),
        },
        Some(other) => Err(invalid(field, &format!("an object of {values}"), other)),
    }
}

/// A truth value, in the spellings the reference accepts.
fn switch(
    configuration: &Map<String, Value>,
    field: &str,
    default: bool,
) -> Result<bool, DriverError> {
    let Some(value) = configuration.get(field) else {
        return Ok(default);
    };
    let spelled = match value {
        Value::Bool(value) => return Ok(*value),
        Value::Number(number) if number.as_f64() == Some(1.0) => "true".to_owned(),
        Value::Number(number) if number.as_f64() == Some(0.0) => "false".to_owned(),
        Value::String(text) => text.to_ascii_lowercase(),
        _ => String::new(),
    };
    match spelled.as_str() {
        "1" | "on" | "t" | "true" | "y" | "yes" => Ok(true),
        "0" | "off" | "f" | "false" | "n" | "no" => Ok(false),
        _ => Err(invalid(field, "true or false", value)),
    }
}

/// Names the type of what was found, never its value: it may be a secret.
fn invalid(field: &str, expected: &str, found: &Value) -> DriverError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "another text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    DriverError::Invalid {
        field: field.to_owned(),
        reason: format!("must be {expected}, and is {found}"),
    }
}

#[cfg(test)]
mod tests;
