//! Reads values as leniently as the reference's Pydantic models do: environment variables are all texts, and people write
//! `"5"` for 5.

use serde_json::Value;

/// Reads a truth value as Pydantic does.
pub(crate) fn flag(value: &Value) -> Option<bool> {
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
pub(crate) fn whole(value: &Value) -> Option<i64> {
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
pub(crate) fn real(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
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
pub(crate) fn status_codes(value: &Value) -> Option<Vec<u16>> {
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

/// Reads texts, each once and in the order they are written.
pub(crate) fn texts(value: &Value) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    for item in items(value)? {
        let text = item.as_str()?;
        if !texts.iter().any(|known| known == text) {
            texts.push(text.to_owned());
        }
    }
    Some(texts)
}

/// Reads an object of texts, or a text that is one in JSON.
pub(crate) fn object_of_texts(value: &Value) -> Option<Vec<(String, String)>> {
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
