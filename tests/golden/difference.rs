//! Where two jobs differ, for people.

use serde_json::Value;

/// Writes a value with the keys of objects in order and nothing else between, so that equal values are equal texts.
pub(crate) fn canonical(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// One line for each place where two values differ.
pub(crate) fn lines(expected: &Value, got: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    collect("", Some(expected), Some(got), &mut lines);
    lines
}

fn collect(place: &str, expected: Option<&Value>, got: Option<&Value>, lines: &mut Vec<String>) {
    match (expected, got) {
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            let mut keys: Vec<_> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                collect(
                    &format!("{place}.{key}"),
                    left.get(key),
                    right.get(key),
                    lines,
                );
            }
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                collect(&format!("{place}[{index}]"), Some(left), Some(right), lines);
            }
        }
        (expected, got) => {
            let show = |value: Option<&Value>| value.map_or("absent".to_owned(), canonical);
            let (expected, got) = (show(expected), show(got));
            if expected != got {
                lines.push(format!(
                    "{place}: expected {expected}\n{place}:      got {got}"
                ));
            }
        }
    }
}
