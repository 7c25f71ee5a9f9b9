use std::time::Duration;

use super::{from_seconds, parse};

#[test]
fn seconds_and_units_are_read() {
    for (text, milliseconds) in [
        ("0", 0),
        ("90", 90_000),
        (" 0.5 ", 500),
        ("500ms", 500),
        ("30s", 30_000),
        ("30 s", 30_000),
        ("5m", 300_000),
        ("1.5h", 5_400_000),
        ("1h30m", 5_400_000),
        ("1h 30m 5s", 5_405_000),
        ("2 minutes", 120_000),
        ("1d", 86_400_000),
    ] {
        assert_eq!(
            parse(text),
            Some(Duration::from_millis(milliseconds)),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_duration_is_refused() {
    for text in [
        "",
        " ",
        "ten",
        "-1",
        "5x",
        "5 5",
        "s",
        "1h30",
        "nan",
        "inf",
        "1e300",
        "4000000000",
        "1..2s",
    ] {
        assert_eq!(parse(text), None, "{text}");
    }
    assert_eq!(from_seconds(-0.1), None);
}
