//! Events: kept for a week, for subscribers that come back and for whoever asks.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{ToSql, params};
use serde_json::Value;

use super::{Tx, value::Micros};
use crate::{
    error::Error,
    events::{Event, EventFilter, filter::Order},
};

/// Some of the events that meet a filter.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) events: Vec<Event>,
    /// How many there are in all.
    pub(crate) total: usize,
}

/// How long events are kept (the reference's default, 3.8.8).
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How many are removed in one transaction, so that requests do not wait behind it.
const BATCH: u32 = 1000;

/// Stores an event. One that is there already is no new one: clients send again what they are not sure of.
pub(super) fn insert(tx: &Tx<'_>, event: &Event) -> Result<bool, Error> {
    let inserted = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO event (id, occurred, name, doc) VALUES (?, ?, ?, ?)",
        )?
        .execute(params![
            event.id.to_string(),
            Micros(event.occurred),
            event.name,
            event.text()
        ])?;
    Ok(inserted > 0)
}

/// The events that meet a filter, from one position on and at most so many.
pub(crate) fn filter(
    tx: &Tx<'_>,
    filter: &EventFilter,
    offset: usize,
    limit: usize,
) -> Result<Found, Error> {
    let (since, until) = filter.bounds();
    let order = match filter.order.unwrap_or_default() {
        Order::Asc => "occurred, number",
        Order::Desc => "occurred DESC, number DESC",
    };
    let mut statement = tx.prepare_cached(&format!(
        "SELECT doc FROM event WHERE occurred BETWEEN ?1 AND ?2 ORDER BY {order}"
    ))?;
    let bounds: [&dyn ToSql; 2] = [
        &Micros(since.unwrap_or(Timestamp::UNIX_EPOCH)),
        &Micros(until.unwrap_or(Timestamp::MAX)),
    ];
    let mut rows = statement.query(bounds.as_slice())?;
    let (mut events, mut total) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let body: Value = serde_json::from_str(row.get_ref(0)?.as_str().unwrap_or_default())?;
        let Some(event) = Event::parse(body, tx.now).filter(|event| filter.wants(event)) else {
            continue;
        };
        if total >= offset && events.len() < limit {
            events.push(event);
        }
        total += 1;
    }
    Ok(Found { events, total })
}

/// Removes some of the events that have been kept long enough.
pub(crate) fn sweep(tx: &Tx<'_>) -> Result<usize, Error> {
    let before = tx.now.checked_sub(KEPT).unwrap_or(Timestamp::UNIX_EPOCH);
    let removed = tx
        .prepare_cached(
            "DELETE FROM event WHERE number IN
                (SELECT number FROM event WHERE occurred < ? ORDER BY occurred LIMIT ?)",
        )?
        .execute(params![Micros(before), BATCH])?;
    Ok(removed)
}
