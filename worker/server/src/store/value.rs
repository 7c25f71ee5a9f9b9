//! How values of the wire become values of the database, and back.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use rusqlite::{
    ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A time, kept as microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct Micros(pub(crate) Timestamp);

/// JSON that is stored as text and goes out as it is.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Raw(pub(crate) Box<RawValue>);

/// A span of time, kept as microseconds and sent as seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub(crate) struct Span(pub(crate) i64);

// === impl Micros ===

impl ToSql for Micros {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_microsecond().into())
    }
}

impl FromSql for Micros {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let micros = value.as_i64()?;
        Timestamp::from_microsecond(micros)
            .map(Self)
            .map_err(FromSqlError::other)
    }
}

// === impl Raw ===

impl FromSql for Raw {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        RawValue::from_string(value.as_str()?.to_owned())
            .map(Self)
            .map_err(FromSqlError::other)
    }
}

// === impl Span ===

impl Span {
    /// The span in seconds.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds are exact up to 285 years"
    )]
    pub(crate) fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl FromSql for Span {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_seconds())
    }
}

/// Reads a time as the reference does: RFC 3339, with a blank for the `T`, or without a zone, which means UTC.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let time = text.parse::<Timestamp>().ok().or_else(|| {
        let civil = text.parse::<DateTime>().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })?;
    Timestamp::from_microsecond(time.as_microsecond()).ok()
}

/// Reads a time out of a request's body.
pub(crate) mod time {
    use serde::{Deserialize, Deserializer, de::Error};

    use super::{Timestamp, parse_time};

    /// Reads a time that may be absent or null.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| {
            parse_time(&text).ok_or_else(|| D::Error::custom("Input should be a valid datetime"))
        })
        .transpose()
    }
}
