//! Values as Python's `str` writes them.
//!
//! The reference fills text with `str(value)`: `True`, `None`, `{'x': 1}`. Templates, job environments and names of
//! people rely on that spelling, so it is reproduced here for everything JSON can hold. Nothing here knows of templates.

use std::{fmt::Write as _, sync::LazyLock};

use regex::Regex;
use serde_json::{Number, Value};

/// What Python's `str.isprintable` refuses, besides the blank: separators and everything of category "other".
static UNPRINTABLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[\p{C}\p{Z}]$").expect("the pattern is constant"));

/// Writes a JSON value as `str(value)` of what Python's `json` makes of it.
pub fn str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => {
            let mut out = String::new();
            write_repr(&mut out, other);
            out
        }
    }
}

/// Writes a floating-point number as `str(float)`: the shortest digits that give it back, always with a point or an exponent.
pub fn str_of_float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let split = scientific.split_once('e');
    let Some((mantissa, Ok(exponent))) = split.map(|(m, e)| (m, e.parse::<i32>())) else {
        return scientific;
    };
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// Writes a JSON value as Python's `json.dumps` does: blanks after `,` and `:`, and nothing beyond ASCII.
pub fn json(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) => value.to_string(),
        Value::Number(number) => str_of_number(number),
        Value::String(text) => json_text(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(json).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(key, value)| format!("{}: {}", json_text(key), json(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

/// Whether Python takes a value for true (`bool(value)`).
pub fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn write_repr(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => out.push_str(&str_of_number(number)),
        Value::String(text) => write_repr_of_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (index, (key, field)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr_of_text(out, key);
                out.push_str(": ");
                write_repr(out, field);
            }
            out.push('}');
        }
    }
}

fn str_of_number(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => str_of_float(float),
        _ => number.to_string(),
    }
}

fn json_text(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    let mut out = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        if (' '..='~').contains(&c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, r"\u{unit:04x}").expect("writing to a String does not fail");
        }
    }
    out
}

/// Single quotes unless the text has some and no double ones.
fn write_repr_of_text(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str(r"\\"),
            '\n' => out.push_str(r"\n"),
            '\r' => out.push_str(r"\r"),
            '\t' => out.push_str(r"\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            c => write_beyond_ascii(out, c),
        }
    }
    out.push(quote);
}

fn write_beyond_ascii(out: &mut String, c: char) {
    if !UNPRINTABLE.is_match(c.encode_utf8(&mut [0; 4])) {
        out.push(c);
        return;
    }
    let code = u32::from(c);
    let written = match code {
        0..=0xff => write!(out, r"\x{code:02x}"),
        0x100..=0xffff => write!(out, r"\u{code:04x}"),
        _ => write!(out, r"\U{code:08x}"),
    };
    written.expect("writing to a String does not fail");
}

#[cfg(test)]
mod tests;
