//! Every rule of a table that the reference filled in (`reference/rrule.py`), and what is no rule.

use super::*;

const TABLE: &str = include_str!("../../../tests/reference/rrule.tsv");

#[test]
fn rules_are_due_when_the_reference_says() {
    let mut differences = Vec::new();
    // The first line names the release, the second the columns.
    for line in TABLE.lines().skip(2) {
        let cells: Vec<&str> = line.split('\t').collect();
        let [rule, zone, after, expected] = cells[..] else {
            panic!("a row has four cells: {line}");
        };
        let zone = TimeZone::get(zone).expect("a zone");
        let recurrence = Recurrence::parse(&rule.replace('|', "\n")).expect(rule);
        let mut last: Timestamp = after.parse().expect("a time");
        let wanted = expected.split(',').filter(|time| *time != "-").count();
        let mut found = Vec::new();
        while found.len() < wanted.max(1) {
            let Some(next) = recurrence.next(last, &zone) else {
                break;
            };
            last = next;
            found.push(next.to_string());
        }
        let found = if found.is_empty() {
            "-".to_owned()
        } else {
            found.join(",")
        };
        if found != expected {
            differences.push(format!("{line}\n  found {found}"));
        }
    }
    assert!(TABLE.lines().count() > 250, "the table is complete");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn what_is_no_rule_is_refused() {
    let long = format!("FREQ=DAILY;BYHOUR={}", "1,".repeat(4000));
    for rule in [
        "",
        "FREQ=OFTEN",
        "INTERVAL=2",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;INTERVAL=x",
        "FREQ=DAILY;BYHOUR=24",
        "FREQ=DAILY;BYDAY=XX",
        "FREQ=MONTHLY;BYDAY=0MO",
        "FREQ=DAILY;COLOUR=RED",
        "FREQ=DAILY;UNTIL=soon",
        "FREQ",
        "DTSTART:20260101T000000",
        "WHAT:FREQ=DAILY",
        "FREQ=MONTHLY;BYMONTHDAY=0",
        &long,
    ] {
        assert!(Recurrence::parse(rule).is_err(), "{rule}");
    }
}

#[test]
fn a_rule_that_is_never_due_ends() {
    for rule in [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=31",
        "FREQ=DAILY;COUNT=3",
    ] {
        let recurrence = Recurrence::parse(rule).expect("a rule");
        assert_eq!(
            recurrence.next(
                Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 20_000),
                &TimeZone::UTC
            ),
            None,
            "{rule}"
        );
    }
}
