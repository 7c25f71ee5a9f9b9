//! When schedules are due.

use super::*;

fn times(schedule: &Value, after: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(schedule).expect("a schedule");
    let after: Timestamp = after.parse().expect("a time");
    let times = schedule.after(after).take(count);
    times.map(|time| time.to_string()).collect()
}

#[test]
fn a_pattern_is_due_in_its_time_zone() {
    let schedule = json!({ "cron": "0 9 * * *", "timezone": "Europe/Berlin" });
    // Clocks went back in the night to 26 October 2025: nine o'clock stays nine o'clock.
    let expected = [
        "2025-10-25T07:00:00Z",
        "2025-10-26T08:00:00Z",
        "2025-10-27T08:00:00Z",
    ];
    assert_eq!(times(&schedule, "2025-10-24T12:00:00Z", 3), expected);
}

#[test]
fn day_and_weekday_are_joined_as_the_schedule_says() {
    let either = json!({ "cron": "0 0 13 * 5" });
    assert_eq!(
        times(&either, "2026-02-01T00:00:00Z", 2),
        ["2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z"]
    );
    let both = json!({ "cron": "0 0 13 * 5", "day_or": false });
    assert_eq!(
        times(&both, "2026-02-01T00:00:00Z", 2),
        ["2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z"]
    );
}

#[test]
fn an_interval_counts_from_its_anchor() {
    let schedule = json!({ "interval": 900.0, "anchor_date": "2026-01-01T00:05:00Z" });
    let expected = ["2026-02-01T00:05:00Z", "2026-02-01T00:20:00Z"];
    assert_eq!(times(&schedule, "2026-02-01T00:00:00Z", 2), expected);
    // What is due now was due; the next is the one after it.
    assert_eq!(
        times(&schedule, "2026-02-01T00:05:00Z", 1),
        ["2026-02-01T00:20:00Z"]
    );
    // An anchor may lie ahead.
    assert_eq!(
        times(&schedule, "2025-12-31T00:00:00Z", 1),
        ["2025-12-31T00:05:00Z"]
    );
}

#[test]
fn whole_days_follow_the_calendar_and_hours_the_clock() {
    let daily = json!({ "interval": 86400, "anchor_date": "2025-10-20T07:00:00Z", "timezone": "Europe/Berlin" });
    let expected = ["2025-10-25T07:00:00Z", "2025-10-26T08:00:00Z"];
    assert_eq!(times(&daily, "2025-10-24T12:00:00Z", 2), expected);
    let hourly = json!({ "interval": 3600, "anchor_date": "2025-10-20T07:00:00Z", "timezone": "Europe/Berlin" });
    let expected = [
        "2025-10-26T00:00:00Z",
        "2025-10-26T01:00:00Z",
        "2025-10-26T02:00:00Z",
    ];
    assert_eq!(times(&hourly, "2025-10-25T23:30:00Z", 3), expected);
}

#[test]
fn what_is_left_out_is_filled_in() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let given = |value: Value| value.as_object().cloned().unwrap_or_default();
    let cron =
        Schedule::normalize(&given(json!({ "cron": "0 0 * * *" })), now).expect("a schedule");
    assert_eq!(
        cron,
        json!({ "cron": "0 0 * * *", "timezone": null, "day_or": true })
    );
    let interval =
        Schedule::normalize(&given(json!({ "interval": 60.0 })), now).expect("a schedule");
    assert_eq!(
        interval,
        json!({ "interval": 60.0, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC" })
    );
}
