//! Global concurrency limits, and who holds their slots.
//!
//! A slot is held by a lease, which ends by itself when nobody renews it, or without one, until it is given back or has
//! decayed. The limits of tags are those named `tag:<tag>`. Limits of deployments are no business of this file.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, Row, params, types::Value as Sql};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Tx,
    filter::{Condition, Page},
    value::Micros,
};
use crate::error::Error;

/// A limit as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LimitView {
    pub(crate) id: String,
    created: Micros,
    updated: Micros,
    active: bool,
    pub(crate) name: String,
    pub(crate) limit: u32,
    /// Whole slots, as the reference counts them.
    active_slots: u32,
    denied_slots: u32,
    slot_decay_per_second: f64,
    avg_slot_occupancy_seconds: f64,
    #[serde(skip)]
    taken: f64,
}

/// What is sent to create a limit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitCreate {
    pub(crate) name: String,
    pub(crate) limit: u32,
    #[serde(default = "LimitCreate::default_active")]
    pub(crate) active: bool,
    #[serde(default)]
    pub(crate) active_slots: u32,
    #[serde(default, rename = "denied_slots")]
    pub(crate) _denied_slots: u32,
    #[serde(default)]
    pub(crate) slot_decay_per_second: f64,
}

/// What is sent to change a limit. What is absent stays.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitUpdate {
    #[serde(default)]
    active: Option<bool>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    active_slots: Option<u32>,
    #[serde(default, rename = "denied_slots")]
    _denied_slots: Option<u32>,
    #[serde(default)]
    slot_decay_per_second: Option<f64>,
}

/// What somebody asks for who wants slots.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) slots: u32,
    pub(crate) names: Vec<String>,
    #[serde(default)]
    mode: Mode,
    /// Seconds.
    #[serde(default)]
    pub(crate) lease_duration: Option<f64>,
    #[serde(default)]
    holder: Option<Value>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Concurrency,
    RateLimit,
}

/// How long one waits for a slot of which nobody knows how long it will be held (the reference's first guess, 3.8.8).
const OCCUPANCY: f64 = 2.0;

/// The slots that are taken, those that have decayed since they were counted left out.
const SELECT: &str = "SELECT l.id, l.created, l.updated, l.active, l.name, l.slots, l.decay_per_second,
    max(0.0, l.taken - l.decay_per_second * (?1 - l.counted) / 1e6)
        + coalesce((SELECT sum(s.slots) FROM slot_lease_limit m JOIN slot_lease s ON s.id = m.lease_id
            WHERE m.limit_id = l.id AND s.expires > ?1), 0) FROM concurrency_limit l";

// === impl LimitView ===

impl LimitView {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let taken: f64 = row.get(7)?;
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(2)?,
            active: row.get(3)?,
            name: row.get(4)?,
            limit: row.get(5)?,
            slot_decay_per_second: row.get(6)?,
            active_slots: whole(taken),
            denied_slots: 0,
            avg_slot_occupancy_seconds: OCCUPANCY,
            taken,
        })
    }

    fn decays(&self) -> bool {
        self.slot_decay_per_second > 0.0
    }

    /// How the clients that take slots know it.
    pub(crate) fn brief(&self) -> Value {
        json!({ "id": self.id, "name": self.name, "limit": self.limit })
    }
}

// === impl LimitCreate ===

impl LimitCreate {
    fn default_active() -> bool {
        true
    }
}

// === impl LimitUpdate ===

impl LimitUpdate {
    /// Another number of slots.
    pub(crate) fn limit(slots: u32) -> Self {
        Self {
            limit: Some(slots),
            ..Self::default()
        }
    }

    /// Another number of slots that are taken.
    pub(crate) fn active_slots(slots: usize) -> Self {
        Self {
            active_slots: u32::try_from(slots).ok(),
            ..Self::default()
        }
    }
}

/// Makes a limit.
pub(crate) fn create(tx: &Tx<'_>, limit: &LimitCreate) -> Result<LimitView, Error> {
    check_decay(Some(limit.slot_decay_per_second))?;
    if find(tx, &limit.name)?.is_some() {
        return Err(Error::Conflict(
            "A concurrency limit with this name already exists.".to_owned(),
        ));
    }
    tx.prepare_cached("INSERT INTO concurrency_limit VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?3, ?7)")?
        .execute(params![
            Uuid::new_v4().to_string(),
            limit.name,
            Micros(tx.now),
            limit.limit,
            limit.active,
            f64::from(limit.active_slots),
            limit.slot_decay_per_second,
        ])?;
    read(tx, &limit.name)
}

/// Reads the limit of an id or a name.
pub(crate) fn read(tx: &Tx<'_>, key: &str) -> Result<LimitView, Error> {
    find(tx, key)?.ok_or_else(|| Error::not_found("Concurrency Limit not found"))
}

/// The limits by name; those whose name begins with a text, if one is given.
pub(crate) fn list(tx: &Tx<'_>, prefix: &str, page: Page) -> Result<Vec<LimitView>, Error> {
    let mut condition = Condition::default();
    condition.and(
        "substr(l.name, 1, length(?2)) = ?2",
        [Sql::from(prefix.to_owned())],
    );
    let condition = condition.after(tx.now.as_microsecond());
    condition.list(tx, SELECT, "l.name", page, LimitView::read)
}

/// Changes a limit.
pub(crate) fn update(tx: &Tx<'_>, key: &str, update: &LimitUpdate) -> Result<(), Error> {
    check_decay(update.slot_decay_per_second)?;
    let limit = read(tx, key)?;
    if update.active_slots.is_some() {
        // Whoever says how many are taken knows better than the leases do.
        drop_leases(tx, &limit.id)?;
    }
    tx.prepare_cached(
        "UPDATE concurrency_limit SET updated = ?2, active = coalesce(?3, active), name = coalesce(?4, name),
            slots = coalesce(?5, slots), taken = coalesce(?6, max(0.0, taken - decay_per_second * (?2 - counted) / 1e6)),
            counted = ?2, decay_per_second = coalesce(?7, decay_per_second) WHERE id = ?1",
    )?
    .execute(params![
        limit.id,
        Micros(tx.now),
        update.active,
        update.name,
        update.limit,
        update.active_slots.map(f64::from),
        update.slot_decay_per_second,
    ])?;
    Ok(())
}

/// Deletes a limit; who held its slots goes on.
pub(crate) fn delete(tx: &Tx<'_>, key: &str) -> Result<(), Error> {
    let limit = read(tx, key)?;
    tx.execute("DELETE FROM concurrency_limit WHERE id = ?", [limit.id])?;
    Ok(())
}

/// Takes slots of every limit that there is of the names, or of none. The limits, and a lease if one is wanted.
pub(crate) fn acquire(
    tx: &Tx<'_>,
    wanted: &Wanted,
    lease: Option<SignedDuration>,
) -> Result<(Vec<LimitView>, Option<Uuid>), Error> {
    let limits = of_names(tx, &wanted.names)?;
    let active: Vec<&LimitView> = limits.iter().filter(|limit| limit.active).collect();
    if active.iter().any(|limit| limit.limit < wanted.slots) {
        return Err(Error::Unprocessable(
            "Slots requested is greater than the limit".to_owned(),
        ));
    }
    let steady: Vec<&str> = active
        .iter()
        .filter(|limit| !limit.decays())
        .map(|limit| limit.name.as_str())
        .collect();
    if wanted.mode == Mode::RateLimit && !steady.is_empty() {
        return Err(Error::Unprocessable(format!(
            "Only concurrency limits with slot decay can be used for rate limiting. The following limits do not have a decay configured: '{}'",
            steady.join(",")
        )));
    }
    let slots = f64::from(wanted.slots);
    let waits = active.iter().filter_map(|limit| {
        let missing = limit.taken + slots - f64::from(limit.limit);
        // What is less than a thousandth of a slot is the noise of the sum.
        (missing > 0.001).then(|| {
            if limit.decays() {
                missing / limit.slot_decay_per_second
            } else {
                OCCUPANCY
            }
        })
    });
    if let Some(wait) = waits.reduce(f64::max) {
        return Err(Error::Locked(wait));
    }
    let lease = lease.map(|duration| (Uuid::new_v4(), duration));
    if let Some((id, duration)) = lease {
        tx.prepare_cached("INSERT INTO slot_lease VALUES (?, ?, ?, ?, ?)")?
            .execute(params![
                id.to_string(),
                Micros(tx.now),
                Micros(tx.now.checked_add(duration).unwrap_or(Timestamp::MAX)),
                wanted.slots,
                wanted.holder.as_ref().map(Value::to_string),
            ])?;
    }
    for limit in active {
        match lease {
            Some((id, _)) if !limit.decays() => {
                tx.prepare_cached("INSERT INTO slot_lease_limit VALUES (?, ?)")?
                    .execute([id.to_string(), limit.id.clone()])?;
            }
            // A slot that decays is given back by time, whoever holds it.
            _ => count(tx, limit, slots)?,
        }
    }
    Ok((limits, lease.map(|(id, _)| id)))
}

/// Gives slots back that were taken without a lease.
pub(crate) fn release(tx: &Tx<'_>, names: &[String], slots: u32) -> Result<Vec<LimitView>, Error> {
    let limits = of_names(tx, names)?;
    for limit in limits.iter().filter(|limit| limit.active) {
        count(tx, limit, -f64::from(slots))?;
    }
    Ok(limits)
}

/// Gives back what a lease holds. One that is gone holds nothing.
pub(crate) fn release_lease(tx: &Tx<'_>, lease: Uuid) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM slot_lease WHERE id = ?")?
        .execute([lease.to_string()])?;
    Ok(())
}

/// Lets a lease start anew that has not run out, and says whether there is one.
pub(super) fn renew(tx: &Tx<'_>, lease: Uuid, expires: Micros) -> Result<bool, Error> {
    let renewed = tx
        .prepare_cached("UPDATE slot_lease SET expires = ? WHERE id = ? AND expires > ?")?
        .execute(params![expires, lease.to_string(), Micros(tx.now)])?;
    Ok(renewed > 0)
}

/// The ids of those that hold slots of a limit by a lease, the first one first.
pub(crate) fn holders(tx: &Tx<'_>, limit: &str) -> Result<Vec<String>, Error> {
    let ids = tx
        .prepare_cached(
            "SELECT s.holder ->> '$.id' FROM slot_lease_limit m JOIN slot_lease s ON s.id = m.lease_id
                WHERE m.limit_id = ? AND s.expires > ? AND s.holder ->> '$.id' IS NOT NULL ORDER BY s.created",
        )?
        .query_map(params![limit, Micros(tx.now)], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(ids)
}

/// Removes leases that have run out.
pub(super) fn sweep(tx: &Tx<'_>) -> Result<usize, Error> {
    Ok(tx.execute(
        "DELETE FROM slot_lease WHERE expires <= ?",
        [Micros(tx.now)],
    )?)
}

/// Ends every lease on a limit.
fn drop_leases(tx: &Tx<'_>, limit: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM slot_lease_limit WHERE limit_id = ?", [limit])?;
    Ok(())
}

/// Counts slots in or out that no lease holds.
fn count(tx: &Tx<'_>, limit: &LimitView, slots: f64) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE concurrency_limit SET
            taken = max(0.0, max(0.0, taken - decay_per_second * (?2 - counted) / 1e6) + ?3), counted = ?2 WHERE id = ?1",
    )?
    .execute(params![limit.id, Micros(tx.now), slots])?;
    Ok(())
}

fn of_names(tx: &Tx<'_>, names: &[String]) -> Result<Vec<LimitView>, Error> {
    let limits = tx
        .prepare_cached(&format!(
            "{SELECT} WHERE l.name IN (SELECT value FROM json_each(?2)) ORDER BY l.name"
        ))?
        .query_map(
            params![Micros(tx.now), serde_json::to_string(names)?],
            LimitView::read,
        )?
        .collect::<Result<_, _>>()?;
    Ok(limits)
}

fn find(tx: &Tx<'_>, key: &str) -> Result<Option<LimitView>, Error> {
    let found = tx
        .prepare_cached(&format!("{SELECT} WHERE l.id = ?2 OR l.name = ?2"))?
        .query_row(params![Micros(tx.now), key], LimitView::read)
        .optional()?;
    Ok(found)
}

fn check_decay(decay: Option<f64>) -> Result<(), Error> {
    if decay.is_some_and(|decay| !(0.0..=1e9).contains(&decay)) {
        return Err(Error::field(
            &["slot_decay_per_second"],
            "Input should be greater than or equal to 0",
        ));
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "slots are few and never negative"
)]
fn whole(slots: f64) -> u32 {
    slots.ceil() as u32
}
