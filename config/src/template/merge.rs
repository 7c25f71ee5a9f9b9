//! How job variables of a deployment and of a flow run become one set.

use serde_json::{Map, Value, map::Entry};

use super::TemplateError;

/// How deep a dotted key may reach. Deeper ones than people write would let a flow run exhaust the worker's stack.
const MAX_SEGMENTS: usize = 64;

/// Lays a flow run's job variables over its deployment's, then expands dotted keys.
///
/// Only `env` is merged key by key, and only when the deployment's is an object. A dotted key loses against a plain
/// one, whoever wrote it, as in the reference.
pub(super) fn merge_job_variables(
    deployment: &Map<String, Value>,
    flow_run: &Map<String, Value>,
) -> Result<Map<String, Value>, TemplateError> {
    let mut values = deployment.clone();
    for (name, value) in flow_run {
        match (name.as_str(), values.get_mut(name), value) {
            ("env", Some(Value::Object(env)), Value::Object(over)) => {
                env.extend(over.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            // Python's `dict.update` takes any of these for nothing to do.
            ("env", Some(Value::Object(_)), Value::Array(_) | Value::String(_))
                if !crate::python::is_truthy(value) => {}
            ("env", Some(Value::Object(_)), _) => {
                return Err(TemplateError::not_an_object("job variable env"));
            }
            _ => {
                values.insert(name.clone(), value.clone());
            }
        }
    }
    expand_dotted(values)
}

fn expand_dotted(values: Map<String, Value>) -> Result<Map<String, Value>, TemplateError> {
    let (dotted, plain): (Vec<_>, Vec<_>) =
        values.into_iter().partition(|(key, _)| key.contains('.'));
    let mut expanded = Map::new();
    for (key, value) in dotted {
        set_path(&mut expanded, &key, value)?;
    }
    for (key, value) in plain {
        lay_over(&mut expanded, key, value);
    }
    Ok(expanded)
}

fn set_path(map: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), TemplateError> {
    let mut segments: Vec<_> = super::placeholder::segments(path).collect();
    if segments.len() > MAX_SEGMENTS {
        return Err(TemplateError::invalid(
            "job variables",
            format!("a dotted key has more than {MAX_SEGMENTS} parts"),
        ));
    }
    let last = segments.pop().expect("splitting gives at least one part");
    let mut map = map;
    for segment in segments {
        let next = map
            .entry(segment)
            .or_insert_with(|| Value::Object(Map::new()));
        map = next.as_object_mut().ok_or_else(|| {
            TemplateError::invalid(
                format!("job variable {path}"),
                "another job variable sets a part of this path to something that is not an object",
            )
        })?;
    }
    map.insert(last, value);
    Ok(())
}

/// Merges objects into objects all the way down; anything else replaces what is there.
fn lay_over(map: &mut Map<String, Value>, key: String, value: Value) {
    match map.entry(key) {
        Entry::Vacant(vacant) => {
            vacant.insert(value);
        }
        Entry::Occupied(mut occupied) => match (occupied.get_mut(), value) {
            (Value::Object(below), Value::Object(above)) => {
                for (key, value) in above {
                    lay_over(below, key, value);
                }
            }
            (below, value) => *below = value,
        },
    }
}
