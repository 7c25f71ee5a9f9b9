//! When a deployment runs.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use serde_json::{Map, Value};

use super::{
    fields::{Fields, Reader},
    node::Node,
};

/// One schedule of a deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// When.
    pub timing: Timing,
    /// The time zone, by its IANA name.
    pub timezone: Option<String>,
    /// Whether it makes flow runs: a truth value, or a template for one.
    pub active: Option<Value>,
    /// Parameters for its flow runs, over those of the deployment.
    pub parameters: Map<String, Value>,
    /// Names it among the schedules of the deployment.
    pub slug: Option<String>,
    /// The slug of an existing schedule that becomes this one.
    pub replaces: Option<String>,
}

/// When a schedule makes flow runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Timing {
    /// At the times of a cron expression.
    Cron {
        /// The expression.
        cron: String,
        /// Whether a day must fit the day of month or the day of week, instead of both: a truth value, or a template
        /// for one.
        day_or: Option<Value>,
    },
    /// Again and again.
    Interval {
        /// The time between flow runs.
        interval: Duration,
        /// From when it is counted, as it is written.
        anchor_date: Option<String>,
    },
    /// At the times of a recurrence rule (RFC 5545).
    Rrule(String),
}

/// Reads `schedules`, or the one in the older `schedule`.
pub(super) fn schedules(fields: &mut Fields, reader: &mut Reader) -> Option<Vec<Schedule>> {
    let one = fields.take("schedule");
    let many = fields.take("schedules");
    if let (Some(one), Some(_)) = (&one, &many) {
        reader.wrong(
            one.line,
            fields.key("schedule"),
            "must not be used together with schedules",
        );
        return None;
    }
    let nodes = match (one, many) {
        (None, None) => return None,
        (Some(one), _) if one.is_null() => return None,
        (Some(one), _) => vec![(fields.key("schedule"), one)],
        (None, Some(many)) if many.is_null() => Vec::new(),
        (None, Some(many)) => {
            let key = fields.key("schedules");
            let items = reader.list(many, &key).into_iter().enumerate();
            items
                .map(|(index, item)| (format!("{key}[{index}]"), item))
                .collect()
        }
    };
    Some(
        nodes
            .into_iter()
            .filter_map(|(key, node)| schedule(node, &key, reader))
            .collect(),
    )
}

/// `{}` is none. The shape of the API, with the timing under a `schedule` of its own, is understood, too.
fn schedule(node: Node, key: &str, reader: &mut Reader) -> Option<Schedule> {
    let mut fields = reader.fields(node, key)?;
    if fields.is_empty() {
        return None;
    }
    let (timing, timezone) = match fields.nested("schedule", reader) {
        Some(mut inner) => {
            let read = timing(&mut inner, reader);
            inner.refuse_unknown(reader);
            read
        }
        None => timing(&mut fields, reader),
    };
    let schedule = timing.map(|timing| Schedule {
        timing,
        timezone,
        active: fields.flag_or_template("active", reader),
        parameters: fields.object("parameters", reader),
        slug: fields.text("slug", reader),
        replaces: fields.text("replaces", reader),
    });
    if schedule.is_some() {
        fields.refuse_unknown(reader);
    }
    schedule
}

fn timing(fields: &mut Fields, reader: &mut Reader) -> (Option<Timing>, Option<String>) {
    let cron = fields.text("cron", reader);
    let every = fields.take("interval").filter(|node| !node.is_null());
    let rrule = fields.text("rrule", reader);
    let day_or = fields.flag_or_template("day_or", reader);
    let anchor_date = fields.text("anchor_date", reader);
    let timezone = fields.text("timezone", reader);
    let timing = match (cron, every, rrule) {
        (Some(cron), None, None) => Some(Timing::Cron { cron, day_or }),
        (None, Some(node), None) => {
            interval(node, &fields.key("interval"), reader).map(|interval| Timing::Interval {
                interval,
                anchor_date,
            })
        }
        (None, None, Some(rrule)) => Some(Timing::Rrule(rrule)),
        _ => {
            let problem = "must have exactly one of cron, interval and rrule";
            reader.wrong(
                fields.line,
                fields.key("").trim_end_matches('.').to_owned(),
                problem,
            );
            None
        }
    };
    (timing, timezone)
}

/// A number of seconds, `HH:MM:SS`, or a duration of ISO 8601.
fn interval(node: Node, key: &str, reader: &mut Reader) -> Option<Duration> {
    let line = node.line;
    let interval = match node.into_value() {
        Value::Number(number) => number
            .as_f64()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        Value::String(text) => from_clock(&text).or_else(|| from_iso(&text)),
        _ => None,
    };
    let interval = interval.filter(|interval| !interval.is_zero());
    if interval.is_none() {
        let problem = "must be a number of seconds, HH:MM:SS, or a duration like PT1H30M";
        reader.wrong(line, key.to_owned(), problem);
    }
    interval
}

fn from_clock(text: &str) -> Option<Duration> {
    let parts: Vec<u64> = text
        .split(':')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    match parts.as_slice() {
        [hours, minutes @ 0..=59, seconds @ 0..=59] => {
            let hours = hours.checked_mul(3_600)?;
            Some(Duration::from_secs(
                hours.checked_add(minutes * 60 + seconds)?,
            ))
        }
        [seconds] => Some(Duration::from_secs(*seconds)),
        _ => None,
    }
}

fn from_iso(text: &str) -> Option<Duration> {
    // The parser also knows spellings that Prefect does not.
    let span: Span = text.strip_prefix('P').and(text.parse().ok())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    duration.try_into().ok()
}
