use serde_json::{Value, json};

use super::{is_truthy, str, str_of_float};

/// Pairs of a value and what Python 3.11 answers to `str(value)`.
const REFERENCE: &str = include_str!("reference.json");

#[test]
fn every_value_is_written_as_python_writes_it() {
    let pairs: Vec<(Value, String)> = serde_json::from_str(REFERENCE).expect("a table of pairs");
    assert!(pairs.len() > 40);
    for (value, expected) in pairs {
        assert_eq!(str(&value), expected, "{value}");
    }
}

#[test]
fn numbers_json_cannot_hold_are_written_as_python_writes_them() {
    assert_eq!(str_of_float(f64::NAN), "nan");
    assert_eq!(str_of_float(f64::INFINITY), "inf");
    assert_eq!(str_of_float(f64::NEG_INFINITY), "-inf");
}

#[test]
fn truth_is_python_truth() {
    for falsy in [
        json!(null),
        json!(false),
        json!(0),
        json!(0.0),
        json!(""),
        json!([]),
        json!({}),
    ] {
        assert!(!is_truthy(&falsy), "{falsy}");
    }
    for truthy in [
        json!(true),
        json!(-1),
        json!(0.1),
        json!(" "),
        json!([null]),
        json!({"a": null}),
    ] {
        assert!(is_truthy(&truthy), "{truthy}");
    }
}
