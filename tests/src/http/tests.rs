//! Answers are taken apart.

use serde_json::{Value, json};

use super::parse_answer;

#[test]
fn an_answer_has_a_status_and_a_body() {
    let answer = parse_answer(b"HTTP/1.1 201 Created\r\nx: y\r\n\r\n{\"id\": 1}").unwrap();
    assert_eq!((answer.status, answer.body), (201, json!({"id": 1})));
}

#[test]
fn an_empty_body_is_null_and_text_stays_text() {
    let empty = parse_answer(b"HTTP/1.0 204 No Content\r\n\r\n").unwrap();
    let text = parse_answer(b"HTTP/1.0 500 Oh\r\n\r\nInternal Server Error").unwrap();
    assert_eq!(empty.body, Value::Null);
    assert_eq!(text.body, json!("Internal Server Error"));
}

#[test]
fn what_is_not_http_is_an_error() {
    assert!(parse_answer(b"").is_err());
    assert!(parse_answer(b"HTTP/1.0 abc\r\n\r\n").is_err());
}
