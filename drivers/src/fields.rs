//! Reading typed fields out of a job configuration.
//!
//! As lenient as the reference's typed configurations (pydantic's lax mode, 3.8.8) and no more. An error names the field, what it must be
//! and the type of what was found, never its value: it may be a secret.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::driver::DriverError;

/// A text. None: it is not set, or null.
pub(crate) fn text<'a>(
    configuration: &'a Map<String, Value>,
    field: &str,
) -> Result<Option<&'a str>, DriverError> {
    match configuration.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(invalid(field, "a text or null", other)),
    }
}

/// An object that has to be one where it is set.
pub(crate) fn object<'a>(
    configuration: &'a Map<String, Value>,
    field: &str,
    fits: impl Fn(&Value) -> bool,
    values: &str,
) -> Result<Option<&'a Map<String, Value>>, DriverError> {
    match configuration.get(field) {
        None => Ok(None),
        Some(Value::Object(entries)) => match entries.iter().find(|(_, value)| !fits(value)) {
            None => Ok(Some(entries)),
            Some((name, value)) => Err(invalid(&format!("{field}.{name}"), "a text", value)),
        },
        Some(other) => Err(invalid(field, &format!("an object of {values}"), other)),
    }
}

/// An object of texts.
pub(crate) fn texts_by_name(
    configuration: &Map<String, Value>,
    field: &str,
) -> Result<BTreeMap<String, String>, DriverError> {
    let entries = object(configuration, field, Value::is_string, "texts")?;
    let entries = entries.into_iter().flatten();
    Ok(entries
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect())
}

/// A list of texts, empty where it is not set.
pub(crate) fn texts(
    configuration: &Map<String, Value>,
    field: &str,
) -> Result<Vec<String>, DriverError> {
    let Some(value) = configuration.get(field) else {
        return Ok(vec![]);
    };
    let Value::Array(items) = value else {
        return Err(invalid(field, "a list of texts", value));
    };
    let text = |item: &Value| match item {
        Value::String(text) => Ok(text.clone()),
        other => Err(invalid(field, "a list of texts", other)),
    };
    items.iter().map(text).collect()
}

/// A truth value, in the spellings the reference accepts.
pub(crate) fn switch(
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

/// A whole number, in the spellings the reference accepts. None: it is not set, or null.
pub(crate) fn whole_number(
    configuration: &Map<String, Value>,
    field: &str,
) -> Result<Option<i64>, DriverError> {
    let value = match configuration.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let number = match value {
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => whole_number_in(text),
        _ => None,
    };
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(invalid(field, "a whole number", value)),
    }
}

/// Names the type of what was found, never its value.
pub(crate) fn invalid(field: &str, expected: &str, found: &Value) -> DriverError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "another text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    refused(field, format!("must be {expected}, and is {found}"))
}

/// An error about a field. The reason must not hold a value that may be a secret.
pub(crate) fn refused(field: &str, reason: impl Into<String>) -> DriverError {
    DriverError::Invalid {
        field: field.to_owned(),
        reason: reason.into(),
    }
}

/// Digits with single underscores between them, a sign before, zeros behind a point, and blanks around all of it.
fn whole_number_in(text: &str) -> Option<i64> {
    let text = text.trim();
    let (text, zeros) = text.split_once('.').unwrap_or((text, "0"));
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let spelled = digits
        .split('_')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    let whole = !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0');
    (spelled && whole).then(|| text.replace('_', "").parse().ok())?
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it is whole and far from the bounds"
)]
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
}

#[cfg(test)]
mod tests;
