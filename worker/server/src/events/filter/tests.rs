//! Who is told what.

use serde_json::json;

use super::*;

fn wants(filter: Value) -> bool {
    let body = json!({ "event": "prefect.flow-run.Running", "occurred": "2026-01-01T00:00:00Z",
        "resource": { "prefect.resource.id": "own", "prefect.state-type": "RUNNING" },
        "related": [{ "prefect.resource.id": "pool", "prefect.resource.role": "work-pool" },
            { "prefect.resource.id": "flow", "prefect.resource.role": "flow" }] });
    let filter: EventFilter = serde_json::from_value(filter).expect("a filter");
    filter.wants(&Event::parse(body, Timestamp::UNIX_EPOCH).expect("an event"))
}

#[test]
fn a_filter_wants_what_meets_all_its_conditions() {
    for filter in [
        json!({}),
        json!({ "event": { "name": ["prefect.flow-run.Running"] } }),
        json!({ "event": { "name": null, "exclude_name": ["other"] } }),
        json!({ "any_resource": { "id": ["pool"] } }),
        json!({ "any_resource": [{ "id": ["pool"] }, { "id_prefix": ["ow"] }] }),
        json!({ "any_resource": { "id": null } }),
        json!({ "related": { "id": ["pool"], "role": ["work-pool"] } }),
        json!({ "related": [{ "role": ["flow"] }, { "resources_in_roles": [["pool", "work-pool"]] }] }),
        json!({ "resource": { "labels": { "prefect.state-type": ["RUN*"] } } }),
        json!({ "resource": { "labels": { "prefect.state-type": "!FAILED" } } }),
        json!({ "occurred": { "since": "2026-01-01T00:00:00Z", "until": null } }),
        json!({ "text": { "query": "running" } }),
        json!({ "text": { "query": "nothing \"state-type\" +own -failed" } }),
    ] {
        assert!(wants(filter.clone()), "{filter}");
    }
}

#[test]
fn a_filter_does_not_want_what_misses_one_of_its_conditions() {
    for filter in [
        json!({ "event": { "name": ["prefect.flow-run.Pending"] } }),
        json!({ "event": { "name": ["prefect.flow-run.*"] } }),
        json!({ "event": { "prefix": ["prefect."], "exclude_prefix": ["prefect.flow-run"] } }),
        json!({ "resource": { "id": ["pool"] } }),
        json!({ "related": { "id": ["own"] } }),
        json!({ "related": { "id": ["pool"], "role": ["flow"] } }),
        json!({ "resource": { "labels": { "prefect.state-type": ["!RUNNING"] } } }),
        json!({ "any_resource": { "labels": { "none": ["*"] } } }),
        json!({ "occurred": { "since": "2026-01-01T00:00:01Z" } }),
        json!({ "occurred": { "until": "2025-01-01T00:00:00Z" } }),
        json!({ "event": { "name": ["prefect.flow-run.Running"] }, "resource": { "id": ["other"] } }),
        json!({ "text": { "query": "nothing" } }),
        json!({ "text": { "query": "running -own" } }),
        json!({ "text": { "query": "+nothing running" } }),
    ] {
        assert!(!wants(filter.clone()), "{filter}");
    }
}

#[test]
fn a_condition_that_is_not_known_is_refused() {
    for filter in [
        json!({ "colour": ["red"] }),
        json!({ "event": { "suffix": ["x"] } }),
        json!({ "resource": { "role": ["flow"] } }),
        json!({ "order": "SIDEWAYS" }),
    ] {
        let read = serde_json::from_value::<EventFilter>(filter.clone());
        assert!(read.is_err(), "{filter}");
    }
}
