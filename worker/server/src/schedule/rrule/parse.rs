//! From text to a recurrence. What is wrong is said in a few words; the caller says where.

use std::str::FromStr;

use jiff::civil::{Date, DateTime};

use super::{Frequency, Recurrence, Rule, START};

/// The longest text (3.8.8).
const LONGEST: usize = 6500;
const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

/// Reads a rule, or lines that each have a name, a colon and a value.
pub(super) fn recurrence(text: &str) -> Result<Recurrence, String> {
    if text.len() > LONGEST {
        return Err(format!("it has more than {LONGEST} characters"));
    }
    let text = text.to_uppercase();
    let lines = text
        .split_whitespace()
        .map(|line| match line.split_once(':') {
            // Parameters such as a time zone are of no effect: the zone is the schedule's.
            Some((name, value)) => (name.split(';').next().unwrap_or_default(), value),
            None => ("RRULE", line),
        });
    let lines: Vec<(&str, &str)> = lines.collect();
    let start = lines.iter().find(|(name, _)| *name == "DTSTART");
    let start = start.map_or(Ok(START), |(_, value)| moment(value))?;
    let mut recurrence = Recurrence::default();
    for (name, value) in lines {
        match name {
            "RRULE" => recurrence.rules.push(rule(value, start)?),
            "EXRULE" => recurrence.except_rules.push(rule(value, start)?),
            "RDATE" => recurrence.dates.extend(moments(value)?),
            "EXDATE" => recurrence.except_dates.extend(moments(value)?),
            "DTSTART" => {}
            _ => return Err(format!("{name} is not known")),
        }
    }
    if recurrence.rules.is_empty() && recurrence.dates.is_empty() {
        return Err("it has no rule".to_owned());
    }
    Ok(recurrence)
}

fn rule(text: &str, start: DateTime) -> Result<Rule, String> {
    let mut frequency = None;
    let mut rule = Rule {
        start,
        frequency: Frequency::Yearly,
        interval: 1,
        count: None,
        until: None,
        week_start: 0,
        months: Vec::new(),
        week_numbers: Vec::new(),
        year_days: Vec::new(),
        month_days: Vec::new(),
        weekdays: Vec::new(),
        nth_weekdays: Vec::new(),
        hours: Vec::new(),
        minutes: Vec::new(),
        seconds: Vec::new(),
        positions: Vec::new(),
    };
    let mut named = Vec::new();
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("{pair} has no value"))?;
        match name {
            "FREQ" => frequency = Some(frequency_of(value)?),
            "INTERVAL" => rule.interval = number(value)?,
            "COUNT" => rule.count = Some(number(value)?),
            "UNTIL" => rule.until = Some(moment(value)?),
            "WKST" => rule.week_start = weekday(value)?,
            "BYMONTH" => rule.months = list(value, 1..=12, false)?,
            "BYWEEKNO" => rule.week_numbers = list(value, 1..=53, true)?,
            "BYYEARDAY" => rule.year_days = list(value, 1..=366, true)?,
            "BYMONTHDAY" => rule.month_days = list(value, 1..=31, true)?,
            "BYDAY" | "BYWEEKDAY" => named = value.split(',').map(day).collect::<Result<_, _>>()?,
            "BYHOUR" => rule.hours = list(value, 0..=23, false)?,
            "BYMINUTE" => rule.minutes = list(value, 0..=59, false)?,
            "BYSECOND" => rule.seconds = list(value, 0..=59, false)?,
            "BYSETPOS" => rule.positions = list(value, 1..=366, true)?,
            _ => return Err(format!("{name} is not known")),
        }
    }
    rule.frequency = frequency.ok_or("it has no FREQ")?;
    if rule.interval < 1 {
        return Err("INTERVAL must be positive".to_owned());
    }
    for (nth, weekday) in named {
        match nth {
            // Which one of a week there is no need to ask.
            Some(nth) if rule.frequency <= Frequency::Monthly => {
                rule.nth_weekdays.push((nth, weekday));
            }
            _ => rule.weekdays.push(weekday),
        }
    }
    rule.complete();
    Ok(rule)
}

// === impl Rule ===

impl Rule {
    /// What a rule does not say, its start does.
    fn complete(&mut self) {
        let start = self.start;
        let says_days = [&self.week_numbers, &self.year_days, &self.month_days]
            .iter()
            .any(|list| !list.is_empty())
            || !self.weekdays.is_empty()
            || !self.nth_weekdays.is_empty();
        if !says_days {
            match self.frequency {
                Frequency::Yearly => {
                    if self.months.is_empty() {
                        self.months.push(start.month().into());
                    }
                    self.month_days.push(start.day().into());
                }
                Frequency::Monthly => self.month_days.push(start.day().into()),
                Frequency::Weekly => self.weekdays.push(start.weekday().to_monday_zero_offset()),
                _ => {}
            }
        }
        let units = [
            (&mut self.hours, Frequency::Hourly, start.hour()),
            (&mut self.minutes, Frequency::Minutely, start.minute()),
            (&mut self.seconds, Frequency::Secondly, start.second()),
        ];
        for (list, frequency, value) in units {
            if list.is_empty() && self.frequency < frequency {
                list.push(value.into());
            }
        }
    }
}

fn frequency_of(text: &str) -> Result<Frequency, String> {
    Ok(match text {
        "YEARLY" => Frequency::Yearly,
        "MONTHLY" => Frequency::Monthly,
        "WEEKLY" => Frequency::Weekly,
        "DAILY" => Frequency::Daily,
        "HOURLY" => Frequency::Hourly,
        "MINUTELY" => Frequency::Minutely,
        "SECONDLY" => Frequency::Secondly,
        _ => return Err(format!("{text} is no FREQ")),
    })
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// Numbers within bounds, in order and each once; where they may be negative, they count from the end.
fn list(
    text: &str,
    bounds: std::ops::RangeInclusive<i64>,
    from_end: bool,
) -> Result<Vec<i64>, String> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let value: i64 = number(part)?;
        let place = if from_end { value.abs() } else { value };
        if !bounds.contains(&place) {
            return Err(format!("{value} is out of bounds"));
        }
        numbers.push(value);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// A day of the week, perhaps with which one it is: `TU`, `2TU`, `-1FR` or `TU(+2)`.
fn day(text: &str) -> Result<(Option<i64>, i8), String> {
    let (name, nth) = if let Some((name, nth)) = text.split_once('(') {
        (name, nth.trim_end_matches(')'))
    } else {
        let at = text.len().saturating_sub(2);
        let name = text.get(at..).unwrap_or(text);
        (name, text.get(..at).unwrap_or_default())
    };
    let weekday = weekday(name)?;
    if nth.is_empty() {
        return Ok((None, weekday));
    }
    match number(nth)? {
        0 => Err(format!("{text} is no day")),
        nth => Ok((Some(nth), weekday)),
    }
}

fn weekday(text: &str) -> Result<i8, String> {
    let place = WEEKDAYS.iter().position(|name| *name == text);
    place
        .and_then(|place| i8::try_from(place).ok())
        .ok_or_else(|| format!("{text} is no day of the week"))
}

fn moments(text: &str) -> Result<Vec<DateTime>, String> {
    text.split(',').map(moment).collect()
}

/// `20260131T093000`, `20260131T093000Z` or `20260131`.
fn moment(text: &str) -> Result<DateTime, String> {
    let bare = text.trim_end_matches('Z');
    let time = if bare.contains('T') {
        DateTime::strptime("%Y%m%dT%H%M%S", bare)
    } else {
        Date::strptime("%Y%m%d", bare).map(DateTime::from)
    };
    time.map_err(|_| format!("{text} is no time"))
}
