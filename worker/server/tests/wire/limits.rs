//! A deployment's concurrency limit.

use axum::http::Method;
use serde_json::json;

use crate::client::{Api, id};

async fn two_runs(options: serde_json::Value) -> (Api, String, String) {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api
        .deployment(json!({ "concurrency_limit": 1, "concurrency_options": options }))
        .await;
    let (first, second) = (api.run(&deployment).await, api.run(&deployment).await);
    (api, first, second)
}

#[tokio::test]
async fn a_run_without_a_slot_waits_for_one() {
    let (api, first, second) = two_runs(json!({ "collision_strategy": "ENQUEUE" })).await;
    let claim = api.propose(&first, "PENDING").await;
    assert!(claim["state"]["state_details"]["deployment_concurrency_lease_id"].is_string());
    let refused = api.propose(&second, "PENDING").await;
    assert_eq!(refused["status"], "REJECT");
    assert_eq!(refused["state"]["name"], "AwaitingConcurrencySlot");
    assert_eq!(
        refused["details"]["reason"],
        "Deployment concurrency limit reached."
    );
    for kind in ["RUNNING", "COMPLETED"] {
        assert_eq!(api.propose(&first, kind).await["status"], "ACCEPT");
    }
    assert_eq!(api.propose(&second, "PENDING").await["status"], "ACCEPT");
}

#[tokio::test]
async fn a_run_without_a_slot_is_cancelled_when_the_deployment_says_so() {
    let (api, first, second) = two_runs(json!({ "collision_strategy": "CANCEL_NEW" })).await;
    api.propose(&first, "PENDING").await;
    let refused = api.propose(&second, "PENDING").await;
    assert_eq!(
        (&refused["status"], &refused["state"]["type"]),
        (&json!("REJECT"), &json!("CANCELLED"))
    );
    assert_eq!(
        refused["state"]["message"],
        "Deployment concurrency limit reached."
    );
}

#[tokio::test]
async fn the_lease_goes_with_the_run_and_can_be_renewed() {
    let (api, first, _) = two_runs(json!(null)).await;
    let lease = |answer: &serde_json::Value| {
        answer["state"]["state_details"]["deployment_concurrency_lease_id"]
            .as_str()
            .map(str::to_owned)
    };
    let claimed = lease(&api.propose(&first, "PENDING").await).expect("a lease");
    let path = format!("/flow_runs/{first}/set_state");
    let submitting = json!({ "state": { "type": "PENDING", "name": "Submitting", "state_details": { "deployment_concurrency_lease_id": null } } });
    assert_eq!(
        lease(&api.post(&path, submitting).await),
        Some(claimed.clone())
    );
    assert_eq!(
        lease(&api.propose(&first, "RUNNING").await),
        Some(claimed.clone())
    );
    let renew = format!("/v2/concurrency_limits/leases/{claimed}/renew");
    api.post(&renew, json!({ "lease_duration": 300 })).await;
    api.propose(&first, "COMPLETED").await;
    let answer = api
        .send(
            Method::POST,
            &renew,
            Some(&json!({ "lease_duration": 300 })),
        )
        .await;
    assert_eq!(answer.status, 410);
}

#[tokio::test]
async fn a_slot_that_ran_out_is_taken_again_or_the_run_is_cancelled() {
    let grace = json!({ "collision_strategy": "ENQUEUE", "grace_period_seconds": 0 });
    let (api, first, second) = two_runs(grace).await;
    api.propose(&first, "PENDING").await;
    // The first lease has run out, so the second run finds the slot free, and the lease of a run that runs is new.
    assert_eq!(api.propose(&second, "PENDING").await["status"], "ACCEPT");
    assert_eq!(api.propose(&first, "RUNNING").await["status"], "ACCEPT");
    let deployment = id(&api.get("/deployments/name/f/d").await);
    let options = json!({ "concurrency_options": { "collision_strategy": "ENQUEUE", "grace_period_seconds": 300 } });
    api.patch(&format!("/deployments/{deployment}"), options)
        .await;
    let third = api.run(&deployment).await;
    assert_eq!(api.propose(&third, "PENDING").await["status"], "ACCEPT");
    let lost = api.propose(&second, "RUNNING").await;
    assert_eq!(
        (&lost["status"], &lost["state"]["type"]),
        (&json!("REJECT"), &json!("CANCELLED"))
    );
}

#[tokio::test]
async fn a_run_whose_deployment_is_gone_cannot_be_claimed() {
    let (api, first, second) = two_runs(json!(null)).await;
    api.propose(&first, "PENDING").await;
    api.propose(&first, "RUNNING").await;
    let deployment = id(&api.get("/deployments/name/f/d").await);
    api.send(Method::DELETE, &format!("/deployments/{deployment}"), None)
        .await;
    let answer = api
        .send(Method::GET, &format!("/flow_runs/{second}"), None)
        .await;
    assert_eq!(answer.status, 404, "scheduled runs go with the deployment");
    assert_eq!(api.propose(&first, "COMPLETED").await["status"], "ACCEPT");
    let refused = api.propose(&first, "PENDING").await;
    assert_eq!(
        (&refused["status"], &refused["details"]["reason"]),
        (&json!("ABORT"), &json!("Deployment not found."))
    );
}

#[tokio::test]
async fn a_tag_without_a_limit_restricts_nobody() {
    let api = Api::start().await;
    let body =
        json!({ "names": ["tag:x"], "slots": 1, "mode": "concurrency", "lease_duration": 60 });
    let answer = api
        .post("/v2/concurrency_limits/increment-with-lease", body)
        .await;
    assert_eq!(answer["limits"], json!([]));
}
