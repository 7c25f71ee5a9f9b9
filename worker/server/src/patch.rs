//! Tells a key that is absent from a key that is null, where a change may take a value away.

use rusqlite::{
    ToSql,
    types::{Null, ToSqlOutput},
};
use serde::{Deserialize, Deserializer};

/// What a request says about a value. Used with `#[serde(default)]`, which makes an absent key `Keep`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Patch<T> {
    /// Nothing: it stays.
    #[default]
    Keep,
    /// Null: it goes away.
    Clear,
    /// This is it from now on.
    Set(T),
}

// === impl Patch ===

impl<T> Patch<T> {
    /// Whether it says anything.
    pub(crate) fn changes(&self) -> bool {
        !matches!(self, Self::Keep)
    }
}

/// The value from now on, where it changes.
impl<T: ToSql> ToSql for Patch<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Keep | Self::Clear => Ok(ToSqlOutput::from(Null)),
            Self::Set(value) => value.to_sql(),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::deserialize(deserializer)?;
        Ok(value.map_or(Self::Clear, Self::Set))
    }
}
