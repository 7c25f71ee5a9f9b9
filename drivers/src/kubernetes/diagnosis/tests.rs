use serde_json::{Value, json};

use super::find_category;

fn category(status: Value) -> Option<&'static str> {
    find_category(&serde_json::from_value(status).expect("it is one"))
}

fn container(state: &Value) -> Value {
    json!({"name": "a", "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0})
}

fn unplaced(message: &str) -> Value {
    json!({"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
    }]})
}

#[test]
fn a_scheduler_says_in_words_why_there_is_no_node() {
    for (message, expected) in [
        ("", "Unschedulable"),
        (
            "3 node(s) didn't match pod topology spread constraints.",
            "Unschedulable",
        ),
        (
            "3 Insufficient memory.",
            "Unschedulable.InsufficientResources",
        ),
        (
            "1 Insufficient cpu, 2 node(s) didn't match Pod's node affinity/selector.",
            "Unschedulable.NodeAffinity",
        ),
        (
            "1 Insufficient cpu, 2 node(s) had untolerated Taint {a: }.",
            "Unschedulable.Taint",
        ),
    ] {
        assert_eq!(category(unplaced(message)), Some(expected), "{message}");
    }
}

#[test]
fn what_containers_say_comes_before_what_is_said_of_the_pod() {
    let waits = container(&json!({"waiting": {"reason": "ImagePullBackOff"}}));
    let killed = container(&json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}}));
    let evicted = container(&json!({"terminated": {"reason": "Evicted", "exitCode": 137}}));
    let well = container(&json!({"running": {}}));
    let all = |inits: Value, mains: Value| {
        json!({
            "reason": "Evicted", "initContainerStatuses": inits, "containerStatuses": mains,
        })
    };
    for (status, expected) in [
        (all(json!([killed]), json!([waits])), Some("ImagePullError")),
        (all(json!([evicted]), json!([killed])), Some("Evicted")),
        (all(json!([]), json!([well, killed])), Some("OOMKilled")),
        (all(json!([]), json!([well])), Some("Evicted")),
        (json!({"containerStatuses": [well]}), None),
        (json!({"reason": "NodeLost"}), None),
    ] {
        assert_eq!(category(status.clone()), expected, "{status}");
    }
}
