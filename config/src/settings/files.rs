//! Reads text and TOML files, and says what is wrong with them without quoting them: any line may hold a secret.

use std::{io, path::Path};

use serde_json::{Map, Number, Value};

use super::{ConfigError, Notes};

/// Reads a text file. None: there is none, or it was unreadable, which is noted.
pub(super) fn read_text(path: &Path, notes: &mut Notes) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if is_absent(&error) => None,
        Err(error) => {
            let place = path.display().to_string();
            notes
                .errors
                .push(ConfigError::new(place, format!("cannot be read: {error}")));
            None
        }
    }
}

/// Reads a TOML file. None: there is none, or it was wrong, which is noted.
pub(super) fn read_toml(path: &Path, notes: &mut Notes) -> Option<Map<String, Value>> {
    let text = read_text(path, notes)?;
    match text.parse::<toml::Table>() {
        Ok(table) => Some(fields(table)),
        Err(error) => {
            let before = error.span().map_or("", |span| &text[..span.start]);
            let line = before.matches('\n').count() + 1;
            notes.errors.push(ConfigError::new(
                format!("{} line {line}", path.display()),
                format!("is not valid TOML: {}", error.message().replace('\n', ", ")),
            ));
            None
        }
    }
}

/// Absent is also what lies below something that is not a directory.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn fields(table: toml::Table) -> Map<String, Value> {
    table
        .into_iter()
        .map(|(key, value)| (key, json(value)))
        .collect()
}

fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Number::from_f64(number)
            .map_or_else(|| Value::String(number.to_string()), Value::Number),
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => Value::Object(fields(table)),
    }
}
