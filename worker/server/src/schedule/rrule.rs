//! Recurrence rules (RFC 5545), as the reference reads them: by the calendar and the clock of the schedule's own zone,
//! from 2020 on where they have no start of their own, a `Z` behind a time without effect (3.8.8, by dateutil).
//!
//! Days are found by looking at each day of a period, which is little work, and periods that cannot matter are skipped.

use jiff::{
    SignedDuration, Span, Timestamp,
    civil::{Date, DateTime, Time, date},
    tz::TimeZone,
};

use super::Invalid;

mod parse;

/// Rules and dates, and those that are taken away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recurrence {
    rules: Vec<Rule>,
    dates: Vec<DateTime>,
    except_rules: Vec<Rule>,
    except_dates: Vec<DateTime>,
}

/// One rule. A list that is empty does not restrict.
#[derive(Clone, Debug)]
struct Rule {
    start: DateTime,
    frequency: Frequency,
    interval: i64,
    count: Option<usize>,
    until: Option<DateTime>,
    /// Days from Monday to the first day of a week.
    week_start: i8,
    months: Vec<i64>,
    week_numbers: Vec<i64>,
    year_days: Vec<i64>,
    month_days: Vec<i64>,
    weekdays: Vec<i8>,
    /// Such as the second Tuesday: of a month, or of a year where no month is named.
    nth_weekdays: Vec<(i64, i8)>,
    hours: Vec<i64>,
    minutes: Vec<i64>,
    seconds: Vec<i64>,
    positions: Vec<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Frequency {
    Yearly,
    Monthly,
    Weekly,
    Daily,
    Hourly,
    Minutely,
    Secondly,
}

/// Where a rule without a start begins (3.8.8).
const START: DateTime = date(2020, 1, 1).at(0, 0, 0, 0);
/// How many periods in a row may be empty: February 29th is 8 years away at most, and days are periods as well.
const EMPTY: usize = 20_000;

// === impl Recurrence ===

impl Recurrence {
    /// Reads a rule, or several lines of rules and dates.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        parse::recurrence(text).map_err(|why| Invalid::Rrule {
            rule: text.to_owned(),
            why,
        })
    }

    /// The first time after another, by the clock of a zone.
    pub(crate) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // A day back, because clocks that are set back show the same time twice.
        let from = after.to_zoned(zone.clone()).datetime();
        let from = from.checked_sub(SignedDuration::from_hours(24)).ok()?;
        // A time that clocks skip or show twice is the earlier of the two it may be (3.8.8).
        let at = |time: DateTime| zone.to_ambiguous_timestamp(time).earlier().ok();
        let wanted =
            |time: &DateTime| at(*time).is_some_and(|at| at > after) && !self.excludes(*time);
        let of_rules = self
            .rules
            .iter()
            .filter_map(|rule| rule.occurrences(from).find(wanted));
        let of_dates = self.dates.iter().copied().filter(wanted);
        of_rules.chain(of_dates).filter_map(at).min()
    }

    fn excludes(&self, time: DateTime) -> bool {
        let ruled_out = |rule: &Rule| rule.occurrences(time).next() == Some(time);
        self.except_dates.contains(&time) || self.except_rules.iter().any(ruled_out)
    }
}

// === impl Rule ===

impl Rule {
    /// The times from one on, in order.
    fn occurrences(&self, from: DateTime) -> impl Iterator<Item = DateTime> + use<'_> {
        // What is counted has to be counted from the start.
        let skipped = if self.count.is_some() {
            0
        } else {
            self.period_of(from)
        };
        let mut period = skipped;
        let mut empty = 0;
        let mut found = Vec::new().into_iter();
        let all = std::iter::from_fn(move || {
            loop {
                if let Some(time) = found.next() {
                    empty = 0;
                    return Some(time);
                }
                if empty == EMPTY {
                    return None;
                }
                empty += 1;
                let (times, next) = self.look_at(period)?;
                period = next;
                found = times.into_iter();
            }
        });
        all.skip_while(|time| *time < self.start)
            .take(self.count.unwrap_or(usize::MAX))
            .take_while(|time| self.until.is_none_or(|until| *time <= until))
            .skip_while(move |time| *time < from)
    }

    /// A period that is not behind a time; the first one is zero.
    fn period_of(&self, time: DateTime) -> i64 {
        let elapsed = time.duration_since(self.start).as_secs();
        let units = match self.frequency {
            Frequency::Yearly => i64::from(time.year()) - i64::from(self.start.year()),
            Frequency::Monthly => months_of(time.date()) - months_of(self.start.date()),
            frequency => elapsed / frequency.seconds(),
        };
        (units / self.interval - 1).max(0)
    }

    /// The times of a period, and the next period to look at. None when the calendar ends.
    fn look_at(&self, period: i64) -> Option<(Vec<DateTime>, i64)> {
        let steps = period.checked_mul(self.interval)?;
        let days: Vec<Date> = match self.frequency {
            Frequency::Yearly => {
                let year = i64::from(self.start.year()).checked_add(steps)?;
                days(first_of(year, 1)?, first_of(year, 1)?.days_in_year().into())
            }
            Frequency::Monthly => {
                let month = months_of(self.start.date()).checked_add(steps)?;
                let first = first_of(month.div_euclid(12), month.rem_euclid(12) + 1)?;
                days(first, first.days_in_month().into())
            }
            Frequency::Weekly => {
                let into = self.days_into_week(self.start.date());
                let first = plus_days(self.start.date(), steps.checked_mul(7)? - into)?;
                let mut week = days(first, 7);
                // The first week begins with the start.
                week.retain(|day| *day >= self.start.date());
                week
            }
            Frequency::Daily => days(plus_days(self.start.date(), steps)?, 1),
            _ => return self.look_at_time(period),
        };
        let at = times(&self.hours, &self.minutes, &self.seconds);
        let matching = days.into_iter().filter(|day| self.has_day(*day));
        let all = matching.flat_map(|day| at.iter().map(move |time| day.to_datetime(*time)));
        Some((self.pick(all.collect()), period + 1))
    }

    /// The same for periods shorter than a day.
    fn look_at_time(&self, period: i64) -> Option<(Vec<DateTime>, i64)> {
        let unit = self.frequency.seconds();
        let offset =
            SignedDuration::from_secs(period.checked_mul(self.interval.checked_mul(unit)?)?);
        let time = self.start.checked_add(offset).ok()?;
        let skip_to = |end: DateTime| {
            let elapsed = end.duration_since(self.start).as_secs();
            let step = self.interval * unit;
            let next = elapsed.div_euclid(step) + i64::from(elapsed.rem_euclid(step) != 0);
            Some((Vec::new(), next.max(period + 1)))
        };
        let (hour, minute) = (i64::from(time.hour()), i64::from(time.minute()));
        if !self.has_day(time.date()) {
            return skip_to(time.date().tomorrow().ok()?.to_datetime(Time::midnight()));
        }
        let on_hour = time.date().at(time.hour(), 0, 0, 0);
        if !allows(&self.hours, hour) {
            return skip_to(on_hour.checked_add(SignedDuration::from_hours(1)).ok()?);
        }
        let on_minute = time.date().at(time.hour(), time.minute(), 0, 0);
        if self.frequency >= Frequency::Minutely && !allows(&self.minutes, minute) {
            return skip_to(on_minute.checked_add(SignedDuration::from_mins(1)).ok()?);
        }
        let second = i64::from(time.second());
        if self.frequency == Frequency::Secondly && !allows(&self.seconds, second) {
            return Some((Vec::new(), period + 1));
        }
        let times = match self.frequency {
            Frequency::Hourly => times(&[hour], &self.minutes, &self.seconds),
            Frequency::Minutely => times(&[hour], &[minute], &self.seconds),
            _ => times(&[hour], &[minute], &[second]),
        };
        let times = times
            .iter()
            .map(|at| time.date().to_datetime(*at))
            .collect();
        Some((self.pick(times), period + 1))
    }

    /// Those of a period's times that have a wanted position; negative ones count from the end.
    fn pick(&self, times: Vec<DateTime>) -> Vec<DateTime> {
        if self.positions.is_empty() {
            return times;
        }
        let count = i64::try_from(times.len()).unwrap_or(i64::MAX);
        let is_picked = |index: i64| {
            self.positions.contains(&(index + 1)) || self.positions.contains(&(index - count))
        };
        let indexed = (0..).zip(times).filter(|(index, _)| is_picked(*index));
        indexed.map(|(_, time)| time).collect()
    }

    fn has_day(&self, day: Date) -> bool {
        let weekday = day.weekday().to_monday_zero_offset();
        let (in_month, in_year) = (i64::from(day.day()), i64::from(day.day_of_year()));
        let month_end = i64::from(day.days_in_month());
        let year_end = i64::from(day.days_in_year());
        allows(&self.months, day.month().into())
            && (self.weekdays.is_empty() || self.weekdays.contains(&weekday))
            && (self.month_days.is_empty() || has(&self.month_days, in_month, month_end))
            && (self.year_days.is_empty() || has(&self.year_days, in_year, year_end))
            && (self.week_numbers.is_empty() || self.has_week(day))
            && (self.nth_weekdays.is_empty() || {
                let by_month = self.frequency == Frequency::Monthly || !self.months.is_empty();
                let (place, end) = if by_month {
                    (in_month, month_end)
                } else {
                    (in_year, year_end)
                };
                self.nth_weekdays.iter().any(|(nth, wanted)| {
                    let from_start = (place - 1) / 7 + 1;
                    let from_end = -((end - place) / 7 + 1);
                    weekday == *wanted && (*nth == from_start || *nth == from_end)
                })
            })
    }

    /// A week belongs to the year that has most of its days.
    fn has_week(&self, day: Date) -> bool {
        let middle = plus_days(day, 3 - self.days_into_week(day));
        let number = |day: Date| (i64::from(day.day_of_year()) - 1) / 7 + 1;
        middle.is_some_and(|middle| {
            let last = Date::new(middle.year(), 12, 31).ok();
            // The last day of a year may be in the first week of the next.
            let weeks = last.and_then(|last| {
                let middle_of_last = plus_days(last, 3 - self.days_into_week(last))?;
                if middle_of_last.year() == last.year() {
                    return Some(number(middle_of_last));
                }
                Some(number(plus_days(middle_of_last, -7)?))
            });
            has(&self.week_numbers, number(middle), weeks.unwrap_or(52))
        })
    }

    fn days_into_week(&self, day: Date) -> i64 {
        let weekday = day.weekday().to_monday_zero_offset();
        i64::from((weekday - self.week_start).rem_euclid(7))
    }
}

// === impl Frequency ===

impl Frequency {
    /// How long a period is, for those that always take as long.
    fn seconds(self) -> i64 {
        match self {
            Self::Weekly => 7 * 24 * 3600,
            Self::Hourly => 3600,
            Self::Minutely => 60,
            Self::Secondly => 1,
            Self::Yearly | Self::Monthly | Self::Daily => 24 * 3600,
        }
    }
}

/// Each of the hours with each of the minutes and each of the seconds.
fn times(hours: &[i64], minutes: &[i64], seconds: &[i64]) -> Vec<Time> {
    let small = |value: i64| i8::try_from(value).ok();
    let mut times = Vec::with_capacity(hours.len() * minutes.len() * seconds.len());
    for hour in hours {
        for minute in minutes {
            for second in seconds {
                let parts = small(*hour).zip(small(*minute)).zip(small(*second));
                let time = parts
                    .and_then(|((hour, minute), second)| Time::new(hour, minute, second, 0).ok());
                times.extend(time);
            }
        }
    }
    times
}

fn allows(list: &[i64], value: i64) -> bool {
    list.is_empty() || list.contains(&value)
}

/// Whether a list has a place, counted from the start or from the end.
fn has(list: &[i64], place: i64, end: i64) -> bool {
    list.contains(&place) || list.contains(&(place - end - 1))
}

fn months_of(day: Date) -> i64 {
    i64::from(day.year()) * 12 + i64::from(day.month()) - 1
}

fn first_of(year: i64, month: i64) -> Option<Date> {
    Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, 1).ok()
}

fn plus_days(day: Date, days: i64) -> Option<Date> {
    day.checked_add(Span::new().try_days(days).ok()?).ok()
}

fn days(first: Date, count: i64) -> Vec<Date> {
    (0..count)
        .filter_map(|offset| plus_days(first, offset))
        .collect()
}

#[cfg(test)]
mod tests;
