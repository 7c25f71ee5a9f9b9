//! Filters as SQL.

use serde_json::json;

use super::*;

const FIELDS: &[Field] = &[
    Field::text("id", "t.id"),
    Field::text("state.type", "t.state_type"),
    Field::time("start_time", "t.start"),
    Field::tags("tags", "t.tags"),
    Field::number("level", "t.level"),
];

fn compile(filter: &Value) -> Result<(String, Vec<Sql>), Error> {
    let mut condition = Condition::default();
    condition.add("rows", filter.as_object(), FIELDS)?;
    Ok((condition.sql(), condition.values))
}

#[test]
fn a_filter_becomes_conditions_with_bound_values() {
    let filter = json!({ "operator": "and_", "id": { "any_": ["a", "b"] }, "state": { "type": { "not_any_": ["X"] }, "name": null },
        "start_time": { "before_": "1970-01-01T00:00:01Z", "is_null_": false }, "level": { "ge_": 20 } });
    let (sql, values) = compile(&filter).expect("a condition");
    assert_eq!(
        sql,
        "1 AND (t.id IN (SELECT value FROM json_each(?))) AND (t.state_type IS NULL OR t.state_type NOT IN \
         (SELECT value FROM json_each(?))) AND (t.start <= ?) AND ((t.start IS NULL) = ?) AND (t.level >= ?)"
    );
    let expected = [
        Sql::from("[\"a\",\"b\"]".to_owned()),
        Sql::from("[\"X\"]".to_owned()),
        Sql::from(1_000_000),
        Sql::from(false),
        Sql::from(20),
    ];
    assert_eq!(values, expected);
}

#[test]
fn no_filter_restricts_nothing() {
    assert_eq!(compile(&json!({})).expect("a condition").0, "1");
    assert_eq!(compile(&json!({ "id": null })).expect("a condition").0, "1");
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    let cases = [
        (json!({ "bogus": {} }), json!(["body", "rows", "bogus"])),
        (
            json!({ "id": { "near_": [] } }),
            json!(["body", "rows", "id", "near_"]),
        ),
        (
            json!({ "id": { "any_": "a" } }),
            json!(["body", "rows", "id", "any_"]),
        ),
        (
            json!({ "operator": "or_" }),
            json!(["body", "rows", "operator"]),
        ),
        (
            json!({ "state": { "kind": {} } }),
            json!(["body", "rows", "state", "kind"]),
        ),
        (
            json!({ "start_time": { "before_": "soon" } }),
            json!(["body", "rows", "start_time", "before_"]),
        ),
        (
            json!({ "tags": { "like_": "x" } }),
            json!(["body", "rows", "tags", "like_"]),
        ),
    ];
    for (filter, place) in cases {
        match compile(&filter) {
            Err(Error::Body { loc, .. }) => assert_eq!(Value::from(loc), place, "{filter}"),
            other => panic!("{filter} is not refused: {other:?}"),
        }
    }
}

#[test]
fn a_page_has_a_limit() {
    let page = |limit| {
        Page {
            limit,
            offset: None,
        }
        .bounds()
        .map_err(|error| error.to_string())
    };
    assert_eq!(page(None), Ok((200, 0)));
    assert_eq!(page(Some(0)), Ok((0, 0)));
    assert!(page(Some(201)).is_err());
}
