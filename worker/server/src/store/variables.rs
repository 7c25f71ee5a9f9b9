//! Variables.

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Tx,
    filter::{Condition, Field, Page},
    value::{Micros, Raw},
};
use crate::{error::Error, patch::Patch};

/// A variable as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct VariableView {
    id: String,
    created: Micros,
    updated: Micros,
    name: String,
    value: Raw,
    tags: Raw,
}

/// What is sent to create a variable.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VariableCreate {
    name: String,
    value: Value,
    #[serde(default)]
    tags: Vec<String>,
}

/// What is sent to change a variable.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VariableUpdate {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    value: Patch<Value>,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// How a request names a variable.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Id(Uuid),
    Name(String),
}

/// What variables can be filtered by.
pub(crate) const FIELDS: &[Field] = &[
    Field::text("id", "v.id"),
    Field::text("name", "v.name"),
    Field::tags("tags", "v.tags"),
];

const SELECT: &str = "SELECT v.id, v.created, v.updated, v.name, v.value, v.tags FROM variable v";

// === impl VariableView ===

impl VariableView {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(2)?,
            name: row.get(3)?,
            value: row.get(4)?,
            tags: row.get(5)?,
        })
    }
}

// === impl VariableUpdate ===

impl VariableUpdate {
    /// The value as it is stored; null is a value like any other.
    fn value_text(&self) -> Option<String> {
        match &self.value {
            Patch::Keep => None,
            Patch::Clear => Some(Value::Null.to_string()),
            Patch::Set(value) => Some(value.to_string()),
        }
    }
}

// === impl Key ===

impl Key {
    fn condition(&self) -> (&'static str, String) {
        match self {
            Self::Id(id) => ("v.id = ?", id.to_string()),
            Self::Name(name) => ("v.name = ?", name.clone()),
        }
    }
}

/// Makes a variable.
pub(crate) fn create(tx: &Tx<'_>, variable: &VariableCreate) -> Result<VariableView, Error> {
    let key = Key::Name(variable.name.clone());
    if find(tx, &key)?.is_some() {
        return Err(Error::Conflict(format!(
            "A variable with the name '{}' already exists.",
            variable.name
        )));
    }
    tx.prepare_cached("INSERT INTO variable VALUES (?1, ?2, ?3, ?3, ?4, ?5)")?
        .execute(params![
            Uuid::new_v4().to_string(),
            variable.name,
            Micros(tx.now),
            variable.value.to_string(),
            serde_json::to_string(&variable.tags)?,
        ])?;
    read(tx, &key)
}

/// Reads a variable.
pub(crate) fn read(tx: &Tx<'_>, key: &Key) -> Result<VariableView, Error> {
    find(tx, key)?.ok_or_else(|| Error::not_found("Variable not found."))
}

/// Changes a variable.
pub(crate) fn update(tx: &Tx<'_>, key: &Key, update: &VariableUpdate) -> Result<(), Error> {
    let found = read(tx, key)?;
    tx.execute(
        "UPDATE variable SET updated = ?2, name = coalesce(?3, name), value = coalesce(?4, value),
            tags = coalesce(?5, tags) WHERE id = ?1",
        params![
            found.id,
            Micros(tx.now),
            update.name,
            update.value_text(),
            update
                .tags
                .as_ref()
                .map(serde_json::to_string)
                .transpose()?,
        ],
    )
    .map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            Error::Conflict("A variable with this name already exists.".to_owned())
        }
        _ => error.into(),
    })?;
    Ok(())
}

/// Deletes a variable.
pub(crate) fn delete(tx: &Tx<'_>, key: &Key) -> Result<(), Error> {
    let found = read(tx, key)?;
    tx.execute("DELETE FROM variable WHERE id = ?", [found.id])?;
    Ok(())
}

/// Variables that meet a condition, by name.
pub(crate) fn filter(
    tx: &Tx<'_>,
    condition: Condition,
    page: Page,
) -> Result<Vec<VariableView>, Error> {
    condition.list(tx, SELECT, "v.name", page, VariableView::read)
}

fn find(tx: &Tx<'_>, key: &Key) -> Result<Option<VariableView>, Error> {
    let (condition, value) = key.condition();
    let found = tx
        .prepare_cached(&format!("{SELECT} WHERE {condition}"))?
        .query_row([value], VariableView::read)
        .optional()?;
    Ok(found)
}
