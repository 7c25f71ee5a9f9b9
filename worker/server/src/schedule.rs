//! Schedules: when a deployment is due next. Pure; who makes the runs is [`crate::services`].

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{SignedDuration, Span, Timestamp, Zoned, tz::TimeZone};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::rrule::Recurrence;
use crate::store::value::parse_time;

mod rrule;

/// When a deployment is due.
#[derive(Clone, Debug)]
pub(crate) enum Schedule {
    /// At the times a cron pattern matches.
    Cron { pattern: Box<Cron>, zone: TimeZone },
    /// Every so often, counted from an anchor.
    Interval {
        every: SignedDuration,
        anchor: Zoned,
    },
    /// At the times a recurrence rule names.
    Rrule {
        recurrence: Box<Recurrence>,
        zone: TimeZone,
    },
}

/// Why a schedule cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invalid {
    /// The recurrence rule is not one.
    #[error("Invalid rrule string: {rule:?} ({why})")]
    Rrule { rule: String, why: String },
    /// It is none of the three kinds.
    #[error("a schedule has a cron pattern, an interval or a recurrence rule: {0}")]
    Unknown(String),
    /// The pattern is not one.
    #[error("Invalid cron string: {pattern:?} ({why})")]
    Pattern { pattern: String, why: String },
    /// The time zone is not one.
    #[error(
        "Invalid timezone: {0:?} (specify in IANA tzdata format, for example America/New_York)"
    )]
    Zone(String),
    /// The interval is not one.
    #[error("the interval must be positive")]
    Interval,
    /// The anchor is not a time.
    #[error("the anchor date is not a time: {0:?}")]
    Anchor(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CronFields {
    cron: String,
    #[serde(default)]
    timezone: Option<String>,
    #[serde(default)]
    day_or: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntervalFields {
    interval: f64,
    #[serde(default)]
    anchor_date: Option<String>,
    #[serde(default)]
    timezone: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RruleFields {
    rrule: String,
    #[serde(default)]
    timezone: Option<String>,
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

// === impl Schedule ===

impl Schedule {
    /// Reads a schedule and gives it back as it is to be stored, with what was left out filled in.
    pub(crate) fn normalize(given: &Map<String, Value>, now: Timestamp) -> Result<Value, Invalid> {
        let mut stored = given.clone();
        if given.contains_key("interval") {
            stored.entry("anchor_date").or_insert(Value::Null);
            if stored["anchor_date"].is_null() {
                stored["anchor_date"] = json!(now);
            }
            let zone = stored.entry("timezone").or_insert(Value::Null);
            if zone.is_null() {
                *zone = "UTC".into();
            }
        } else if given.contains_key("cron") {
            stored.entry("timezone").or_insert(Value::Null);
            stored.entry("day_or").or_insert(true.into());
        } else if given.contains_key("rrule") {
            stored.entry("timezone").or_insert("UTC".into());
        }
        Self::parse(&Value::Object(stored.clone()))?;
        Ok(Value::Object(stored))
    }

    /// Reads a stored schedule.
    pub(crate) fn parse(stored: &Value) -> Result<Self, Invalid> {
        let read = |error: serde_json::Error| Invalid::Unknown(error.to_string());
        if stored.get("rrule").is_some() {
            let fields: RruleFields = serde_json::from_value(stored.clone()).map_err(read)?;
            return Ok(Self::Rrule {
                recurrence: Box::new(Recurrence::parse(&fields.rrule)?),
                zone: zone(fields.timezone.as_deref())?,
            });
        }
        if stored.get("cron").is_some() {
            let fields: CronFields = serde_json::from_value(stored.clone()).map_err(read)?;
            return Self::cron(&fields);
        }
        if stored.get("interval").is_some() {
            let fields: IntervalFields = serde_json::from_value(stored.clone()).map_err(read)?;
            return Self::interval(&fields);
        }
        Err(Invalid::Unknown("it has none".to_owned()))
    }

    fn cron(fields: &CronFields) -> Result<Self, Invalid> {
        let pattern = CronParser::builder()
            // The reference takes seconds as the last field, other programs as the first: refused rather than guessed.
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .dom_and_dow(fields.day_or == Some(false))
            .build()
            .parse(&fields.cron)
            .map_err(|error| Invalid::Pattern {
                pattern: fields.cron.clone(),
                why: error.to_string(),
            })?;
        Ok(Self::Cron {
            pattern: Box::new(pattern),
            zone: zone(fields.timezone.as_deref())?,
        })
    }

    fn interval(fields: &IntervalFields) -> Result<Self, Invalid> {
        let every = SignedDuration::try_from_secs_f64(fields.interval)
            .ok()
            .filter(SignedDuration::is_positive)
            .ok_or(Invalid::Interval)?;
        let anchor = match &fields.anchor_date {
            Some(text) => parse_time(text).ok_or_else(|| Invalid::Anchor(text.clone()))?,
            None => Timestamp::UNIX_EPOCH,
        };
        let anchor = anchor.to_zoned(zone(fields.timezone.as_deref())?);
        Ok(Self::Interval { every, anchor })
    }

    /// The times after one, the next first, without end unless the schedule has one.
    pub(crate) fn after(&self, start: Timestamp) -> impl Iterator<Item = Timestamp> + use<'_> {
        let mut last = start;
        std::iter::from_fn(move || {
            last = self.next(last)?;
            Some(last)
        })
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron { pattern, zone } => {
                let from = after.to_zoned(zone.clone());
                let next = pattern.find_next_occurrence(&from, false).ok()?;
                Some(next.timestamp())
            }
            Self::Rrule { recurrence, zone } => recurrence.next(after, zone),
            Self::Interval { every, anchor } => {
                let passed = after.duration_since(anchor.timestamp());
                let mut step = passed.as_micros().div_euclid(every.as_micros().max(1)) - 1;
                // An hour more or less at a change of clocks moves the guess by a step or two.
                loop {
                    let time = offset(anchor, *every, step)?;
                    if time > after {
                        return Some(time);
                    }
                    step += 1;
                }
            }
        }
    }
}

/// So many intervals after the anchor: whole days by the calendar, the rest by the clock (3.8.8).
fn offset(anchor: &Zoned, every: SignedDuration, steps: i128) -> Option<Timestamp> {
    let total = every.as_micros().checked_mul(steps)?;
    let by_calendar = every.as_micros() % DAY.as_micros() == 0;
    if by_calendar {
        let days = i64::try_from(total / DAY.as_micros()).ok()?;
        let span = Span::new().try_days(days).ok()?;
        return Some(anchor.checked_add(span).ok()?.timestamp());
    }
    let total = SignedDuration::from_micros(i64::try_from(total).ok()?);
    anchor.timestamp().checked_add(total).ok()
}

fn zone(name: Option<&str>) -> Result<TimeZone, Invalid> {
    match name {
        None | Some("UTC") => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name).map_err(|_| Invalid::Zone(name.to_owned())),
    }
}

#[cfg(test)]
mod tests;
