//! One pass for all kinds of placeholders: what the inputs of a pull step are filled with.
//!
//! The reference makes four passes (3.8.8), so that what came out of a secret or of a program is searched for placeholders again. Here
//! what was put in is never looked at.

use serde_json::{Map, Value};

use super::{
    Lookups, TemplateError,
    lookup::{block_document_id, block_text, expand_blocks, read_block, read_variable},
    placeholder::{self, Kind},
};
use crate::python;

/// Fills a value with the outputs of earlier steps, blocks, Prefect variables and the environment. None: the whole value is one placeholder
/// that nothing answers for, as in [`super::apply_values`].
///
/// # Errors
/// As [`expand_blocks`].
pub fn expand_once(
    value: &Value,
    outputs: &Map<String, Value>,
    lookups: &Lookups,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Value>, TemplateError> {
    let expand = |value: &Value| expand_once(value, outputs, lookups, environment);
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(Some(value.clone())),
        Value::String(text) => expand_text(text, outputs, lookups, environment),
        Value::Array(items) => {
            let items = items.iter().filter_map(|item| expand(item).transpose());
            Ok(Some(Value::Array(items.collect::<Result<_, _>>()?)))
        }
        Value::Object(fields) if block_document_id(fields).is_some() => {
            expand_blocks(value, lookups).map(Some)
        }
        Value::Object(fields) => {
            let fields = fields.iter().filter_map(|(key, field)| {
                let field = expand(field).transpose()?;
                Some(field.map(|field| (key.clone(), field)))
            });
            Ok(Some(Value::Object(fields.collect::<Result<_, _>>()?)))
        }
    }
}

/// The type of the block that a value is, if it is a reference to a whole block.
pub fn block_type(value: &Value) -> Option<&str> {
    let text = value.as_str()?;
    let placeholders = placeholder::find(text);
    let [only] = placeholders.as_slice() else {
        return None;
    };
    let name = only.name.strip_prefix(placeholder::BLOCK_PREFIX)?;
    name.split('.').next().filter(|_| only.is_whole(text))
}

/// The names that a value asks the environment for.
pub fn environment_names(value: &Value) -> Vec<String> {
    let mut names = Vec::new();
    placeholder::visit(value, &mut |placeholder| {
        if placeholder.kind == Kind::Environment {
            names.push(placeholder.name.trim_start_matches('$').to_owned());
        }
    });
    names
}

fn expand_text(
    text: &str,
    outputs: &Map<String, Value>,
    lookups: &Lookups,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Value>, TemplateError> {
    let placeholders = placeholder::find(text);
    if let [only] = placeholders.as_slice()
        && only.is_whole(text)
    {
        match only.kind {
            Kind::Standard => {
                let found = placeholder::find_in_map(outputs, only.name);
                return Ok(found.map(std::borrow::Cow::into_owned));
            }
            Kind::Block => return read_block(only, lookups).map(Some),
            Kind::Variable => {
                let value = read_variable(only, lookups)?.cloned();
                return Ok(Some(value.unwrap_or_else(|| String::new().into())));
            }
            Kind::Environment => {}
        }
    }
    let filled = placeholder::replace(text, &placeholders, |placeholder| {
        Ok(Some(match placeholder.kind {
            Kind::Standard => {
                let value = placeholder::find_in_map(outputs, placeholder.name);
                value.as_deref().map(python::str).unwrap_or_default()
            }
            Kind::Block => block_text(placeholder, lookups)?,
            Kind::Variable => {
                let value = read_variable(placeholder, lookups)?;
                value.map(python::str).unwrap_or_default()
            }
            Kind::Environment => {
                environment(placeholder.name.trim_start_matches('$')).unwrap_or_default()
            }
        }))
    })?;
    Ok(Some(Value::String(filled)))
}

#[cfg(test)]
mod tests;
