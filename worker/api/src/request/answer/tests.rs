use std::time::Duration;

use http::{HeaderMap, header::RETRY_AFTER};
use jiff::{Timestamp, fmt::rfc2822};
use serde_json::{Value, json};

use super::{decode, retry_after, server_words, shorten};

fn words(body: &Value) -> Option<String> {
    server_words(body.to_string().as_bytes())
}

fn delay(value: &str) -> Option<Duration> {
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, value.parse().unwrap());
    retry_after(&headers)
}

#[test]
fn the_servers_words_are_found_in_each_form_it_has() {
    let detail = json!({ "detail": "Flow run not found" });
    assert_eq!(words(&detail).unwrap(), "Flow run not found");
    let exception = json!({ "exception_message": "Service Unavailable" });
    assert_eq!(words(&exception).unwrap(), "Service Unavailable");
    assert_eq!(words(&json!([1])), None);
    assert_eq!(server_words(b"<html>"), None);
}

#[test]
fn a_complaint_says_where_and_what_but_not_what_was_sent() {
    let body = json!({
        "exception_message": "Invalid request received.",
        "exception_detail": [
            { "type": "extra_forbidden", "loc": ["body", 0, "x"], "msg": "Extra inputs are not permitted", "input": "hunter2" },
        ],
        "request_body": { "x": "hunter2" },
    });
    assert_eq!(
        words(&body).unwrap(),
        "Invalid request received.; body.0.x: Extra inputs are not permitted"
    );
}

#[test]
fn a_long_text_is_cut_and_put_on_one_line() {
    let text = shorten(&"wörd\n\u{1b}[31m".repeat(1000));
    assert_eq!(text.chars().count(), 201);
    assert!(!text.contains(['\n', '\u{1b}']));
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    assert_eq!(delay("7"), Some(Duration::from_secs(7)));
    assert_eq!(delay("0.5"), Some(Duration::from_millis(500)));
    assert_eq!(delay("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    let due = Timestamp::now() + Duration::from_mins(10);
    let date = rfc2822::to_string(&due.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
    let delay_to_date = delay(&date).unwrap();
    assert!(delay_to_date > Duration::from_mins(9) && delay_to_date <= Duration::from_mins(10));
}

#[test]
fn a_retry_after_that_is_neither_is_ignored() {
    for text in ["soon", "-1", "NaN", "1e400", ""] {
        assert_eq!(delay(text), None, "{text}");
    }
}

#[test]
fn what_is_wrong_with_an_answer_is_said_with_its_place() {
    let error = decode::<Vec<u8>>(b"[1, \"x\"]", false).unwrap_err();
    assert!(
        error.contains("'[1]'") && error.contains("invalid type"),
        "{error}"
    );
    let error = decode::<u8>(b"<html>gateway</html>", false).unwrap_err();
    assert!(error.contains("<html>gateway"), "{error}");
    assert_eq!(
        decode::<u8>(b"", false).unwrap_err(),
        "expected JSON, got nothing"
    );
    assert_eq!(
        decode::<u8>(b"1 2", false).unwrap_err(),
        "text after the JSON"
    );
}

#[test]
fn a_confidential_answer_is_not_quoted() {
    for body in [&b"[\"hunter2\"]"[..], b"hunter2"] {
        let error = decode::<Vec<u8>>(body, true).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
