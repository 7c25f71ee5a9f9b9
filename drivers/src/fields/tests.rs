use serde_json::{Map, Value, json};

use super::{switch, whole_number};

fn with(value: Value) -> Map<String, Value> {
    Map::from_iter([("field".to_owned(), value)])
}

#[test]
fn a_whole_number_is_read_in_the_spellings_of_the_reference() {
    for (value, expected) in [
        (json!(5), 5),
        (json!(5.0), 5),
        (json!(true), 1),
        (json!(" -7 "), -7),
        (json!("1_000"), 1000),
        (json!("5.00"), 5),
    ] {
        let read = whole_number(&with(value.clone()), "field").expect("it is a number");
        assert_eq!(read, Some(expected), "{value}");
    }
    for value in [
        json!(1.5),
        json!("x"),
        json!("1__0"),
        json!(""),
        json!([]),
        json!(1e300),
    ] {
        assert!(
            whole_number(&with(value.clone()), "field").is_err(),
            "{value}"
        );
    }
}

#[test]
fn an_error_names_the_type_and_not_the_value() {
    let error = switch(&with(json!("s3cret")), "field", true).expect_err("it is no truth value");
    assert_eq!(
        error.to_string(),
        "field: must be true or false, and is another text"
    );
}
