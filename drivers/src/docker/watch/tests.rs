use super::{OLDEST_API, parse_api, unix_time};

#[test]
fn versions_are_compared_as_numbers() {
    assert!(parse_api("1.41").unwrap() >= OLDEST_API);
    assert!(parse_api("1.9").unwrap() < OLDEST_API);
    assert!(parse_api("2.0").unwrap() > OLDEST_API);
    assert_eq!(parse_api("new"), None);
}

#[test]
fn a_time_is_written_as_engines_filter_by_it() {
    let written = unix_time("2026-11-21T16:29:56.04293161Z");
    assert_eq!(written.as_deref(), Some("1795278596.042931610"));
    let zone = unix_time("2026-11-21T17:29:56+01:00");
    assert_eq!(zone.as_deref(), Some("1795278596.000000000"));
    assert_eq!(unix_time("soon"), None);
}
