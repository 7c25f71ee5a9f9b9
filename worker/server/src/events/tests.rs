//! Who is told what.

use super::*;

fn event(name: &str, related: &[&str]) -> Event {
    let related: Vec<Value> = related
        .iter()
        .map(|id| json!({ "prefect.resource.id": id }))
        .collect();
    let body = json!({ "event": name, "occurred": "2026-01-01T00:00:00Z", "resource": { "prefect.resource.id": "own" }, "related": related });
    Event::parse(&body, Timestamp::UNIX_EPOCH).expect("an event")
}

fn wants(filter: Value) -> bool {
    let filter: EventFilter = serde_json::from_value(filter).expect("a filter");
    filter.wants(&event("prefect.flow-run.Running", &["pool", "flow"]))
}

#[test]
fn a_filter_wants_what_meets_all_its_conditions() {
    let cases = [
        (json!({}), true),
        (
            json!({ "event": { "name": ["prefect.flow-run.Running"] } }),
            true,
        ),
        (json!({ "event": { "name": ["prefect.flow-run.*"] } }), true),
        (
            json!({ "event": { "name": ["prefect.flow-run.Pending"] } }),
            false,
        ),
        (
            json!({ "event": { "prefix": ["prefect."], "exclude_prefix": ["prefect.flow-run"] } }),
            false,
        ),
        (
            json!({ "event": { "name": null, "exclude_name": ["other"] } }),
            true,
        ),
        (json!({ "any_resource": { "id": ["pool"] } }), true),
        (json!({ "any_resource": { "id": ["own"] } }), true),
        (json!({ "resource": { "id": ["pool"] } }), false),
        (json!({ "related": { "id": ["own"] } }), false),
        (json!({ "related": { "id_prefix": ["po"] } }), true),
        (
            json!({ "occurred": { "since": "2026-01-01T00:00:00Z", "until": null } }),
            true,
        ),
        (
            json!({ "occurred": { "since": "2026-01-01T00:00:01Z" } }),
            false,
        ),
        (
            json!({ "occurred": { "until": "2025-01-01T00:00:00Z" } }),
            false,
        ),
        (
            json!({ "event": { "name": ["prefect.flow-run.Running"] }, "resource": { "id": ["other"] } }),
            false,
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(wants(filter.clone()), expected, "{filter}");
    }
}

#[test]
fn what_is_no_event_is_not_taken_for_one() {
    for body in [
        json!([]),
        json!({}),
        json!({ "event": "x", "occurred": "now", "resource": {} }),
    ] {
        assert!(
            Event::parse(&body, Timestamp::UNIX_EPOCH).is_none(),
            "{body}"
        );
    }
}

#[test]
fn only_the_last_events_are_kept() {
    let hub = Hub::new();
    for index in 0..KEPT + 3 {
        hub.publish(event(&format!("e{index}"), &[]));
    }
    let (_, backlog) = hub.subscribe(&EventFilter::default());
    assert_eq!(backlog.len(), KEPT);
    assert_eq!(backlog.first().map(|event| event.name.as_str()), Some("e3"));
}

#[test]
fn a_long_message_is_cut_between_characters() {
    assert_eq!(shorten("aäb", 2), "a");
    assert_eq!(shorten("ab", 5), "ab");
}
