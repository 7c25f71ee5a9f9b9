use serde_json::json;

use super::{Kind, find, find_in_value, python_int};

#[test]
fn kinds_are_told_by_the_beginning_of_the_name() {
    let text =
        "{{ a }}{{ $A }}{{ prefect.blocks.s.n }}{{ prefect.variables.v }}{{ prefect.other }}";
    let kinds: Vec<_> = find(text).into_iter().map(|found| found.kind).collect();
    assert_eq!(
        kinds,
        [
            Kind::Standard,
            Kind::Environment,
            Kind::Block,
            Kind::Variable,
            Kind::Standard
        ]
    );
}

#[test]
fn only_a_placeholder_without_neighbours_is_whole() {
    assert!(find("{{ a }}")[0].is_whole("{{ a }}"));
    assert!(!find(" {{ a }}")[0].is_whole(" {{ a }}"));
    assert!(!find("{{ a }}{{ a }}")[0].is_whole("{{ a }}{{ a }}"));
}

#[test]
fn integers_are_read_as_python_reads_them() {
    for (text, number) in [
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("007", Some(7)),
        ("1_0", Some(10)),
        ("٣", Some(3)),
        ("𝟟", Some(7)),
        ("99999999999999999999999", Some(i64::MAX)),
        ("-99999999999999999999999", Some(-i64::MAX)),
        ("", None),
        ("-", None),
        ("--1", None),
        ("_1", None),
        ("1_", None),
        ("1__0", None),
        ("²", None),
        ("1a", None),
    ] {
        assert_eq!(python_int(text), number, "{text}");
    }
}

#[test]
fn an_index_far_below_the_beginning_finds_nothing() {
    let list = json!([1, 2]);
    assert_eq!(find_in_value(&list, "-3"), None);
    assert_eq!(find_in_value(&list, "-99999999999999999999999"), None);
    assert_eq!(find_in_value(&list, "-2").as_deref(), Some(&json!(1)));
}
