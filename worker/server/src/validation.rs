//! Checks values against JSON schemas as the reference does, without a database.

use jsonschema::Draft;
use serde_json::{Map, Value, json};

use crate::error::Error;

/// How strict a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Required {
    /// What is required has to be there.
    Checked,
    /// It may come later.
    Ignored,
}

/// Why values do not fit a schema, in the reference's words as far as they are the same.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Mismatch(String);

/// Checks a pool's base job template.
pub(crate) fn check_template(template: &Value) -> Result<(), Error> {
    if template.as_object().is_none_or(Map::is_empty) {
        return Ok(());
    }
    let truthy = |key: &str| match template.get(key) {
        Some(Value::Object(object)) => !object.is_empty(),
        Some(Value::Null) | None => false,
        Some(_) => true,
    };
    if !(truthy("job_configuration") && truthy("variables")) {
        return Err(Error::field(
            &["base_job_template"],
            "Value error, The `base_job_template` must contain both a `job_configuration` key and a `variables` key.",
        ));
    }
    let known = template
        .pointer("/variables/properties")
        .and_then(Value::as_object);
    let mut missing = Vec::new();
    for name in placeholders(&template["job_configuration"]) {
        let is_known = known.is_some_and(|known| known.contains_key(&name));
        if !is_known && !missing.contains(&name) {
            missing.push(name);
        }
    }
    if missing.is_empty() {
        return check_defaults(template);
    }
    Err(Error::field(
        &["base_job_template"],
        format!(
            "Value error, The variables specified in the job configuration template must be present as properties in the variables schema. Your job configuration uses the following undeclared variable(s): {}.",
            missing.join(" ,")
        ),
    ))
}

/// Checks job variables, laid over each other and over the template's defaults, against the template.
pub(crate) fn check_job_variables(
    template: &Value,
    layers: &[&Map<String, Value>],
    required: Required,
) -> Result<(), Mismatch> {
    let Some(schema) = template
        .get("variables")
        .filter(|schema| schema.is_object())
    else {
        return Ok(());
    };
    let (mut values, all_defaults_fit) = defaults(schema);
    for layer in layers {
        values.extend((*layer).clone());
    }
    let required = match (required, all_defaults_fit) {
        (Required::Checked, true) => Required::Checked,
        _ => Required::Ignored,
    };
    check(&Value::Object(values), schema, required, true)
}

/// Checks values against a schema, such as parameters against a flow's.
pub(crate) fn check(
    values: &Value,
    schema: &Value,
    required: Required,
    null_with_default: bool,
) -> Result<(), Mismatch> {
    if schema.as_object().is_some_and(Map::is_empty) {
        return Ok(());
    }
    let mut schema = schema.clone();
    prepare(&mut schema, null_with_default);
    if required == Required::Ignored {
        remove_required(&mut schema);
    }
    let validator = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .build(&schema)
        .map_err(|error| Mismatch(format!("Validation failed. Failure reason: {error}")))?;
    validator.validate(values).map_err(|error| {
        let path = error.instance_path().to_string();
        let path = path.trim_start_matches('/').replace('/', ".");
        Mismatch(if path.is_empty() {
            format!("Validation failed. Failure reason: {error}")
        } else {
            format!("Validation failed for field '{path}'. Failure reason: {error}")
        })
    })
}

/// The defaults of a schema's properties that fit it, and whether all did.
fn defaults(schema: &Value) -> (Map<String, Value>, bool) {
    let mut defaults = Map::new();
    let mut all = true;
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let Some(default) = property.get("default") else {
            continue;
        };
        // A reference to a block is resolved by the worker; what it holds is not known here.
        let is_reference = default.get("$ref").is_some();
        let fits = || {
            let mut schema = schema.clone();
            remove_required(&mut schema);
            jsonschema::options()
                .with_draft(Draft::Draft202012)
                .build(&schema)
                .is_ok_and(|validator| validator.is_valid(&json!({ name: default })))
        };
        if is_reference || !fits() {
            all = false;
        } else {
            defaults.insert(name.clone(), default.clone());
        }
    }
    (defaults, all)
}

fn check_defaults(template: &Value) -> Result<(), Error> {
    let schema = &template["variables"];
    let mut given = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        if let Some(default) = property.get("default")
            && default.get("$ref").is_none()
        {
            given.insert(name.clone(), default.clone());
        }
    }
    check(&Value::Object(given), schema, Required::Ignored, true).map_err(|error| {
        Error::Unprocessable(format!(
            "Validation failed for work pool's job variable defaults: {error}"
        ))
    })
}

/// Makes of a schema as pydantic 1 wrote it one that means the same in draft 2020-12: what is not required may be
/// null, and a list of item schemas is a tuple.
fn prepare(schema: &mut Value, null_with_default: bool) {
    prepare_properties(schema, null_with_default);
    let definitions = schema.get_mut("definitions").and_then(Value::as_object_mut);
    for definition in definitions.into_iter().flat_map(|all| all.values_mut()) {
        prepare_properties(definition, null_with_default);
    }
}

fn prepare_properties(schema: &mut Value, null_with_default: bool) {
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required = |name: &str| {
        required
            .as_array()
            .is_some_and(|names| names.iter().any(|required| required == name))
    };
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        let Some(fields) = property.as_object_mut() else {
            continue;
        };
        let nullable = !is_required(name) && (null_with_default || !fields.contains_key("default"));
        let kind = fields.get("type").filter(|kind| *kind != "null").cloned();
        if let (true, Some(kind)) = (nullable, kind) {
            fields.remove("type");
            fields.insert(
                "anyOf".to_owned(),
                json!([{ "type": kind }, { "type": "null" }]),
            );
        }
        if fields.get("items").is_some_and(Value::is_array)
            && !fields.contains_key("prefixItems")
            && let Some(items) = fields.remove("items")
        {
            fields.insert("prefixItems".to_owned(), items);
        }
        prepare_properties(property, null_with_default);
    }
}

fn remove_required(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // A property may itself be called "required"; only lists of names are the keyword.
            if fields.get("required").is_some_and(Value::is_array) {
                fields.remove("required");
            }
            fields.values_mut().for_each(remove_required);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_required),
        _ => {}
    }
}

/// The names in double braces, as the reference finds them. What has a dot or a dollar sign is not a job variable.
fn placeholders(value: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let mut collect = |text: &str| {
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            rest = &rest[start + 2..];
            let Some(end) = rest.find("}}") else { break };
            let name = rest[..end].trim();
            let is_name = !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '[' | ']'));
            if is_name {
                names.push(name.to_owned());
            }
        }
    };
    walk(value, &mut collect);
    names
}

fn walk(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        Value::Object(fields) => fields.values().for_each(|field| walk(field, visit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
