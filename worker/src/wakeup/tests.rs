use serde_json::json;

use super::*;

fn event(name: &str, resource: &str) -> ReceivedEvent {
    serde_json::from_value(json!({
        "id": "0197e5a0-0000-7000-8000-000000000001",
        "event": name,
        "resource": { "prefect.resource.id": resource, "prefect.state-timestamp": null },
        "related": [],
    }))
    .unwrap()
}

#[test]
fn a_flow_run_that_becomes_due_is_a_reason_to_poll() {
    for name in ["Scheduled", "AwaitingRetry", "Rescheduled", "Resuming"] {
        let event = event(&format!("prefect.flow-run.{name}"), "prefect.flow-run.x");
        assert_eq!(reason(&event, &[]), Some(Reason::Poll), "{name}");
    }
}

#[test]
fn a_cancelled_flow_run_is_a_reason_to_look_at_it_alone() {
    let id = "5f0d7a44-0000-4000-8000-000000000002";
    let told = event(
        "prefect.flow-run.Cancelling",
        &format!("prefect.flow-run.{id}"),
    );
    assert_eq!(
        reason(&told, &[]),
        Some(Reason::LookAt(id.parse().unwrap()))
    );
}

#[test]
fn what_is_about_nothing_we_know_is_no_reason() {
    for (name, resource) in [
        ("prefect.flow-run.Running", "prefect.flow-run.x"),
        ("prefect.task-run.Scheduled", "prefect.task-run.x"),
        ("prefect.flow-run.Cancelled", "prefect.flow-run.not-an-id"),
        ("prefect.flow-run.Cancelled", "prefect.work-pool.x"),
        ("", ""),
    ] {
        assert_eq!(
            reason(&event(name, resource), &[]),
            None,
            "{name} {resource}"
        );
    }
}

#[test]
fn a_socket_that_was_lost_is_tried_soon_and_one_that_was_refused_seldom() {
    let what = "GET /events/out".to_owned();
    let lost = SocketError::Lost {
        what: what.clone(),
        reason: "reset".to_owned(),
    };
    let refused = SocketError::Closed {
        what,
        code: 1008,
        reason: "authentication failed".to_owned(),
    };
    assert_eq!(pause_after(&lost, FIRST_WAIT), FIRST_WAIT);
    assert_eq!(pause_after(&refused, FIRST_WAIT), LONGEST_WAIT);
}

#[test]
fn a_flow_run_in_a_queue_that_is_not_polled_is_no_reason() {
    let mut told = event("prefect.flow-run.Scheduled", "prefect.flow-run.x");
    let ours = ["urgent".to_owned()];
    assert_eq!(reason(&told, &ours), Some(Reason::Poll));
    for (queue, expected) in [("urgent", Some(Reason::Poll)), ("calm", None)] {
        let related =
            json!([{ "prefect.resource.role": "work-queue", "prefect.resource.name": queue }]);
        told.related = serde_json::from_value(related).unwrap();
        assert_eq!(reason(&told, &ours), expected, "{queue}");
    }
}
