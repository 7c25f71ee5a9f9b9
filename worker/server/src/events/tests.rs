//! What an event is.

use super::*;

#[test]
fn what_is_no_event_is_not_taken_for_one() {
    for body in [
        json!([]),
        json!({}),
        json!({ "event": "x", "occurred": "now", "resource": {} }),
        json!({ "event": "x", "occurred": "2026-01-01T00:00:00Z", "resource": {} }),
    ] {
        assert!(
            Event::parse(body.clone(), Timestamp::UNIX_EPOCH).is_none(),
            "{body}"
        );
    }
}

#[test]
fn a_frame_holds_the_event_as_it_is_stored() {
    let earlier = Uuid::now_v7();
    let event = Event::about(
        "x",
        Timestamp::UNIX_EPOCH,
        resource("flow", "1", "f"),
        Vec::new(),
        json!({}),
    )
    .following(Some(earlier));
    let frame: Value = serde_json::from_str(event.frame().as_str()).expect("JSON");
    let stored: Value = serde_json::from_str(event.text()).expect("JSON");
    assert_eq!(frame["event"], stored);
    assert_eq!(stored["follows"], json!(earlier));
    let read = Event::parse(stored, Timestamp::UNIX_EPOCH).expect("an event");
    assert_eq!((read.id, read.text()), (event.id, event.text()));
}
