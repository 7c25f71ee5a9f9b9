//! The first pass: job variables and environment placeholders.

use std::{borrow::Cow, convert::Infallible};

use serde_json::{Map, Value};

use super::placeholder::{self, Kind, Placeholder};
use crate::python;

/// Puts values into a template, as the reference's `apply_values` does. None: the whole template is one placeholder
/// that is unset.
///
/// A text that is nothing but one placeholder becomes the value with its type, or disappears from its object or array
/// when it is unset. In a longer text a value is written as Python's `str` writes it, an unset one as nothing. Values are
/// not searched for placeholders. Block references and Prefect variables stay as they are.
pub fn apply_values(
    template: &Value,
    values: &Map<String, Value>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<Value> {
    match template {
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(template.clone()),
        Value::String(text) => apply_to_text(text, values, environment),
        Value::Array(items) => Some(Value::Array(
            items
                .iter()
                .filter_map(|item| apply_values(item, values, environment))
                .collect(),
        )),
        Value::Object(fields) => Some(Value::Object(apply_to_fields(fields, values, environment))),
    }
}

/// [`apply_values`] for an object, which is never unset itself.
pub(super) fn apply_to_fields(
    fields: &Map<String, Value>,
    values: &Map<String, Value>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Map<String, Value> {
    let filled = fields
        .iter()
        .filter_map(|(key, field)| Some((key.clone(), apply_values(field, values, environment)?)));
    filled.collect()
}

fn apply_to_text(
    text: &str,
    values: &Map<String, Value>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<Value> {
    let placeholders = placeholder::find(text);
    if let [only] = placeholders.as_slice()
        && only.kind == Kind::Standard
        && only.is_whole(text)
    {
        return placeholder::find_in_map(values, only.name).map(Cow::into_owned);
    }
    let Ok(filled) = placeholder::replace::<Infallible>(text, &placeholders, |placeholder| {
        Ok(textual(placeholder, values, environment))
    });
    Some(Value::String(filled))
}

fn textual(
    placeholder: &Placeholder<'_>,
    values: &Map<String, Value>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    match placeholder.kind {
        Kind::Standard => {
            let value = placeholder::find_in_map(values, placeholder.name);
            Some(value.as_deref().map(python::str).unwrap_or_default())
        }
        Kind::Environment => {
            let name = placeholder.name.trim_start_matches('$');
            Some(environment(name).unwrap_or_default())
        }
        Kind::Block | Kind::Variable => None,
    }
}
