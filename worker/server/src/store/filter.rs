//! Filters: the conditions a client sends as JSON, made into SQL.
//!
//! A table says which fields it can be filtered by. What it does not know is refused, because a condition that is
//! ignored gives an answer to another question.

use rusqlite::{Row, types::Value as Sql};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Tx, value::parse_time};
use crate::error::Error;

/// A field that rows can be filtered by.
#[derive(Debug)]
pub(crate) struct Field {
    path: &'static str,
    column: &'static str,
    kind: Kind,
}

/// A condition in the making.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    sql: String,
    values: Vec<Sql>,
}

/// What clients send beside the conditions.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Page {
    /// At most so many rows.
    #[serde(default)]
    pub(crate) limit: Option<u32>,
    /// After so many.
    #[serde(default)]
    pub(crate) offset: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Time,
    Number,
    Tags,
}

/// The default and the maximum of a page (3.8.8).
pub(crate) const PAGE: u32 = 200;

// === impl Field ===

impl Field {
    /// Text, such as a name, an id or a state type.
    pub(crate) const fn text(path: &'static str, column: &'static str) -> Self {
        Self {
            path,
            column,
            kind: Kind::Text,
        }
    }

    /// A time.
    pub(crate) const fn time(path: &'static str, column: &'static str) -> Self {
        Self {
            path,
            column,
            kind: Kind::Time,
        }
    }

    /// A number or a flag.
    pub(crate) const fn number(path: &'static str, column: &'static str) -> Self {
        Self {
            path,
            column,
            kind: Kind::Number,
        }
    }

    /// A JSON array of texts.
    pub(crate) const fn tags(path: &'static str, column: &'static str) -> Self {
        Self {
            path,
            column,
            kind: Kind::Tags,
        }
    }
}

// === impl Page ===

impl Page {
    /// The limit and the offset, within bounds.
    pub(crate) fn bounds(self) -> Result<(u32, u32), Error> {
        let limit = self.limit.unwrap_or(PAGE);
        if limit > PAGE {
            return Err(Error::Unprocessable(format!(
                "Invalid limit: must be less than or equal to {PAGE}."
            )));
        }
        Ok((limit, self.offset.unwrap_or(0)))
    }
}

// === impl Condition ===

impl Condition {
    /// Adds a condition of our own.
    pub(crate) fn and(&mut self, sql: &str, values: impl IntoIterator<Item = Sql>) {
        self.sql.push_str(" AND (");
        self.sql.push_str(sql);
        self.sql.push(')');
        self.values.extend(values);
    }

    /// Adds the conditions a client sent under a name, by the fields of that name.
    pub(crate) fn add(
        &mut self,
        name: &str,
        filter: Option<&Map<String, Value>>,
        fields: &[Field],
    ) -> Result<(), Error> {
        match filter {
            Some(filter) => self.walk(&mut vec![name.to_owned()], filter, fields),
            None => Ok(()),
        }
    }

    /// The text after `WHERE`.
    pub(crate) fn sql(&self) -> String {
        format!("1{}", self.sql)
    }

    /// The values for the text's question marks, and those that follow.
    pub(crate) fn values(
        self,
        more: impl IntoIterator<Item = Sql>,
    ) -> rusqlite::ParamsFromIter<Vec<Sql>> {
        let mut values = self.values;
        values.extend(more);
        rusqlite::params_from_iter(values)
    }

    /// The same condition, behind one more question mark.
    pub(crate) fn after(mut self, value: impl Into<Sql>) -> Self {
        self.values.insert(0, value.into());
        self
    }

    /// One page of the rows that meet the condition.
    pub(crate) fn list<T>(
        self,
        tx: &Tx<'_>,
        select: &str,
        order: &str,
        page: Page,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let (limit, offset) = page.bounds()?;
        let sql = format!(
            "{select} WHERE {} ORDER BY {order} LIMIT ? OFFSET ?",
            self.sql()
        );
        let rows = tx
            .prepare_cached(&sql)?
            .query_map(self.values([limit.into(), offset.into()]), read)?
            .collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// How many rows meet the condition.
    pub(crate) fn count(self, tx: &Tx<'_>, from: &str) -> Result<u32, Error> {
        let sql = format!("SELECT count(*) {from} WHERE {}", self.sql());
        let count = tx
            .prepare_cached(&sql)?
            .query_row(self.values([]), |row| row.get(0))?;
        Ok(count)
    }

    fn walk(
        &mut self,
        path: &mut Vec<String>,
        filter: &Map<String, Value>,
        fields: &[Field],
    ) -> Result<(), Error> {
        for (key, value) in filter {
            if value.is_null() || (key == "operator" && value == "and_") {
                continue;
            }
            path.push(key.clone());
            let dotted = path[1..].join(".");
            let inner = value.as_object().ok_or_else(|| unknown(path))?;
            if let Some(field) = fields.iter().find(|field| field.path == dotted) {
                self.compare(path, field, inner)?;
            } else if fields.iter().any(|field| {
                field
                    .path
                    .strip_prefix(dotted.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
            }) {
                self.walk(path, inner, fields)?;
            } else {
                return Err(unknown(path));
            }
            path.pop();
        }
        Ok(())
    }

    fn compare(
        &mut self,
        path: &mut Vec<String>,
        field: &Field,
        operators: &Map<String, Value>,
    ) -> Result<(), Error> {
        let column = field.column;
        for (operator, operand) in operators {
            if operand.is_null() || operator == "operator" {
                continue;
            }
            path.push(operator.clone());
            let wrong = || unknown(path);
            match (operator.as_str(), field.kind) {
                ("any_", Kind::Text | Kind::Number) => self.and(
                    &format!("{column} IN (SELECT value FROM json_each(?))"),
                    [list(operand).ok_or_else(wrong)?],
                ),
                ("not_any_", Kind::Text | Kind::Number) => self.and(
                    &format!(
                        "{column} IS NULL OR {column} NOT IN (SELECT value FROM json_each(?))"
                    ),
                    [list(operand).ok_or_else(wrong)?],
                ),
                ("any_", Kind::Tags) => self.and(
                    &format!(
                        "EXISTS (SELECT 1 FROM json_each({column}) t WHERE t.value IN (SELECT value FROM json_each(?)))"
                    ),
                    [list(operand).ok_or_else(wrong)?],
                ),
                ("all_", Kind::Tags) => self.and(
                    &format!(
                        "NOT EXISTS (SELECT 1 FROM json_each(?) w WHERE w.value NOT IN (SELECT value FROM json_each({column})))"
                    ),
                    [list(operand).ok_or_else(wrong)?],
                ),
                ("like_", Kind::Text) => self.and(
                    &format!("{column} LIKE '%' || ? || '%'"),
                    [Sql::from(operand.as_str().ok_or_else(wrong)?.to_owned())],
                ),
                ("is_null_", Kind::Tags) => {
                    let empty = operand.as_bool().ok_or_else(wrong)?;
                    self.and(&format!("({column} = '[]') = ?"), [Sql::from(empty)]);
                }
                ("is_null_", _) => {
                    let null = operand.as_bool().ok_or_else(wrong)?;
                    self.and(&format!("({column} IS NULL) = ?"), [Sql::from(null)]);
                }
                ("exists_", _) => {
                    let exists = operand.as_bool().ok_or_else(wrong)?;
                    self.and(&format!("({column} IS NOT NULL) = ?"), [Sql::from(exists)]);
                }
                ("before_", Kind::Time) => {
                    self.and(&format!("{column} <= ?"), [moment(operand).ok_or_else(wrong)?]);
                }
                ("after_", Kind::Time) => {
                    self.and(&format!("{column} >= ?"), [moment(operand).ok_or_else(wrong)?]);
                }
                ("ge_", Kind::Number) => {
                    self.and(&format!("{column} >= ?"), [number(operand).ok_or_else(wrong)?]);
                }
                ("le_", Kind::Number) => {
                    self.and(&format!("{column} <= ?"), [number(operand).ok_or_else(wrong)?]);
                }
                ("eq_", Kind::Number) => {
                    self.and(&format!("{column} = ?"), [number(operand).ok_or_else(wrong)?]);
                }
                _ => return Err(unknown(path)),
            }
            path.pop();
        }
        Ok(())
    }
}

/// A condition the embedded API does not know. The reference may, so the text says whose limit it is.
fn unknown(path: &[String]) -> Error {
    let loc = std::iter::once("body".to_owned()).chain(path.iter().cloned());
    Error::Body {
        kind: "extra_forbidden",
        loc: loc.map(Value::from).collect(),
        msg: "The embedded API does not filter by this, or not with this value".to_owned(),
    }
}

/// A list goes to the database as one JSON text, so that the statement is the same for any length.
fn list(operand: &Value) -> Option<Sql> {
    operand.is_array().then(|| Sql::from(operand.to_string()))
}

fn moment(operand: &Value) -> Option<Sql> {
    parse_time(operand.as_str()?).map(|time| Sql::from(time.as_microsecond()))
}

fn number(operand: &Value) -> Option<Sql> {
    match operand {
        Value::Bool(flag) => Some(Sql::from(*flag)),
        other => other.as_i64().map(Sql::from),
    }
}

#[cfg(test)]
mod tests;
