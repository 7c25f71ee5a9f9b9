//! Durations as people write them.

use std::time::Duration;

/// What would be right, for errors.
pub(super) const EXPECTED: &str = "must be a number of seconds or a duration like 30s, 5m or 1h30m";

/// A hundred years: more is a mistake, and would overflow the clock that waits for it.
const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;

/// Reads a number of seconds (`90`, `0.5`) or numbers with units (`500ms`, `30s`, `5m`, `1h30m`, `1 d`).
pub(super) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => parse_units(text)?,
    };
    from_seconds(seconds)
}

/// Takes a number of seconds if a clock can.
pub(super) fn from_seconds(seconds: f64) -> Option<Duration> {
    // Not a number is in no range.
    (0.0..=LONGEST)
        .contains(&seconds)
        .then(|| Duration::from_secs_f64(seconds))
}

fn parse_units(text: &str) -> Option<f64> {
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        seconds += number * unit(&rest[..letters])?;
        rest = rest[letters..].trim_start();
    }
    (!text.is_empty()).then_some(seconds)
}

fn unit(name: &str) -> Option<f64> {
    match name {
        "ms" => Some(0.001),
        "s" | "sec" | "second" | "seconds" => Some(1.0),
        "m" | "min" | "minute" | "minutes" => Some(60.0),
        "h" | "hour" | "hours" => Some(3_600.0),
        "d" | "day" | "days" => Some(86_400.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
