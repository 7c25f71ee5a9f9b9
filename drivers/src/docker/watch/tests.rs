use super::{OLDEST_API, parse_api};

#[test]
fn versions_are_compared_as_numbers() {
    assert!(parse_api("1.41").unwrap() >= OLDEST_API);
    assert!(parse_api("1.9").unwrap() < OLDEST_API);
    assert!(parse_api("2.0").unwrap() > OLDEST_API);
    assert_eq!(parse_api("new"), None);
}
