//! The environment of a job's container: a list, whose order matters where a value names an earlier variable, as in `$(NAME)`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{driver::DriverError, fields::refused};

/// Tells Prefect's runner in the pod what SIGTERM means for the flow run.
const SIGTERM_BEHAVIOR: &str = "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR";

/// Makes the list. `configured` is what people wrote, as an object or as a list; `prepared` has the values.
///
/// Prefect's own variables come first, by name; then the others in the order people wrote them; then those that are no plain values. Where the
/// cluster starts no second pod (`backoffLimit` 0), a terminated flow run is given back to be rescheduled; else its state is left alone.
pub(super) fn list(
    prepared: &BTreeMap<String, String>,
    configured: Option<&Value>,
    starts_one_pod: bool,
) -> Result<Vec<Value>, DriverError> {
    let special: Vec<&Map<String, Value>> = entries(configured)
        .filter(|entry| entry.contains_key("valueFrom"))
        .collect();
    if special.iter().any(|entry| !entry.contains_key("name")) {
        return Err(refused("env", "each entry of the list must have a name"));
    }
    let mut values = prepared.clone();
    let about_sigterm =
        |entry: &&Map<String, Value>| entry.get("name") == Some(&SIGTERM_BEHAVIOR.into());
    let said = values.get(SIGTERM_BEHAVIOR);
    let said_elsewhere = special.iter().any(about_sigterm);
    // Beside entries that are no plain values the reference looks for the name only.
    let said = said_elsewhere || said.is_some_and(|said| !(said.is_empty() && special.is_empty()));
    let behavior = match (starts_one_pod, said) {
        (true, true) => None,
        (true, false) => Some("reschedule"),
        (false, _) => Some("relinquish"),
    };
    values.extend(behavior.map(|behavior| (SIGTERM_BEHAVIOR.to_owned(), behavior.to_owned())));
    let mut list = Vec::with_capacity(values.len() + special.len());
    let order = written_order(configured);
    for (name, value) in &values {
        if name.starts_with("PREFECT_") || !order.contains(&name.as_str()) {
            list.push(json!({"name": name, "value": value}));
        }
    }
    for name in order
        .into_iter()
        .filter(|name| !name.starts_with("PREFECT_"))
    {
        if let Some(value) = values.get(name) {
            list.push(json!({"name": name, "value": value}));
        }
    }
    for entry in special {
        if starts_one_pod || !about_sigterm(&entry) {
            list.push(Value::Object(entry.clone()));
        }
    }
    Ok(list)
}

/// Puts our list before what the manifest has: of two with the same name ours stays.
pub(super) fn before(ours: Vec<Value>, manifest: Option<&Value>) -> Result<Value, DriverError> {
    let mut list = ours;
    let ours = list.len();
    for entry in manifest.and_then(Value::as_array).into_iter().flatten() {
        let Value::Object(fields) = entry else {
            return Err(refused(
                "job_manifest",
                "each entry of the container's env must be an object",
            ));
        };
        let taken = |one: &Value| one.get("name") == fields.get("name");
        if fields.get("name").is_none() || !list[..ours].iter().any(taken) {
            list.push(entry.clone());
        }
    }
    Ok(Value::Array(list))
}

fn entries(configured: Option<&Value>) -> impl Iterator<Item = &Map<String, Value>> {
    let entries = configured.and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(Value::as_object)
}

/// Each name once, where it is met first.
fn written_order(configured: Option<&Value>) -> Vec<&str> {
    let mut order: Vec<&str> = Vec::new();
    let fields = configured.and_then(Value::as_object).into_iter().flatten();
    let names = fields.map(|(name, _)| name.as_str());
    let plain = entries(configured).filter(|entry| entry.contains_key("value"));
    let names = names.chain(plain.filter_map(|entry| entry.get("name")?.as_str()));
    for name in names {
        if !order.contains(&name) {
            order.push(name);
        }
    }
    order
}
