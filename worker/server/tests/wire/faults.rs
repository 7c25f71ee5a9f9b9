//! Faults: what a client sees, and what the server has done.

use std::time::Duration;

use axum::http::Method;
use serde_json::json;
use worker_server::Fault;

use crate::client::Api;

const ROUTE: &str = "/flow_runs/{id}/set_state";

async fn claimed() -> (Api, String) {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let run = api.run(&deployment).await;
    (api, run)
}

async fn propose(api: &Api, run: &str) -> std::io::Result<crate::client::Answer> {
    let path = format!("/flow_runs/{run}/set_state");
    let body = json!({ "state": { "type": "PENDING" } });
    api.try_send(Method::POST, &path, "", Some(&body)).await
}

async fn state_of(api: &Api, run: &str) -> String {
    let view = api.get(&format!("/flow_runs/{run}")).await;
    view["state_type"].as_str().expect("a state").to_owned()
}

#[tokio::test]
async fn a_status_is_answered_once_and_nothing_is_done() {
    let (api, run) = claimed().await;
    let fault = Fault::Status {
        code: 503,
        retry_after: Some(7),
    };
    api.faults.next(Method::POST, ROUTE, fault);
    let answer = propose(&api, &run).await.expect("an answer");
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 7"), "{}", answer.head);
    assert_eq!(state_of(&api, &run).await, "SCHEDULED");
    assert_eq!(propose(&api, &run).await.expect("an answer").status, 201);
    assert_eq!(api.faults.remaining(), 0);
    assert_eq!(api.server.requests().count(&Method::POST, ROUTE), 2);
}

#[tokio::test]
async fn a_reset_before_the_commit_changes_nothing() {
    let (api, run) = claimed().await;
    api.faults
        .next(Method::POST, ROUTE, Fault::ResetBeforeCommit);
    propose(&api, &run)
        .await
        .expect_err("the connection is cut");
    assert_eq!(state_of(&api, &run).await, "SCHEDULED");
}

#[tokio::test]
async fn a_reset_after_the_commit_has_changed_the_state() {
    let (api, run) = claimed().await;
    api.faults
        .next(Method::POST, ROUTE, Fault::ResetAfterCommit);
    propose(&api, &run)
        .await
        .expect_err("the connection is cut");
    assert_eq!(state_of(&api, &run).await, "PENDING");
}

#[tokio::test]
async fn half_a_body_is_less_than_was_promised() {
    let (api, run) = claimed().await;
    api.faults.next(Method::POST, ROUTE, Fault::TruncatedBody);
    // Either the end comes as an end of the stream or as an error; half a body it is in both cases.
    if let Ok(answer) = propose(&api, &run).await {
        let promised = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.parse::<usize>().ok())
            .expect("a length");
        assert!(
            answer.text.len() < promised,
            "{} of {promised}",
            answer.text.len()
        );
    }
    assert_eq!(state_of(&api, &run).await, "PENDING");
}

#[tokio::test]
async fn garbage_and_nothing_come_with_the_status_of_success() {
    let (api, run) = claimed().await;
    api.faults.next(Method::POST, ROUTE, Fault::Garbage);
    let answer = propose(&api, &run).await.expect("an answer");
    assert_eq!(answer.status, 201);
    assert!(answer.text.starts_with("<html>"), "{}", answer.text);
    api.faults
        .next(Method::GET, "/flow_runs/{any_name}", Fault::Empty);
    let answer = api
        .send(Method::GET, &format!("/flow_runs/{run}"), None)
        .await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
}

#[tokio::test]
async fn a_request_that_hangs_ends_with_the_server() {
    let (api, run) = claimed().await;
    api.faults.next(Method::POST, ROUTE, Fault::Hang);
    let requests = api.server.requests();
    let Api { server, faults } = api;
    let address = server.address();
    let path = format!("/api/flow_runs/{run}/set_state");
    let hanging = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.map(|_| bytes)
    };
    let stopping = async {
        crate::client::eventually("the request", async || {
            (requests.count(&Method::POST, ROUTE) == 1).then_some(())
        })
        .await;
        server.stop().await;
    };
    let (read, ()) = tokio::join!(hanging, stopping);
    assert!(
        read.map_or(true, |bytes| bytes.is_empty()),
        "no answer was sent"
    );
    assert_eq!(faults.remaining(), 0);
}

#[tokio::test]
async fn a_delay_and_a_number_of_faults_are_used_up() {
    let (api, run) = claimed().await;
    api.faults
        .next(Method::POST, ROUTE, Fault::Delay(Duration::from_millis(1)));
    let down = Fault::Status {
        code: 500,
        retry_after: None,
    };
    api.faults.times(2, Method::POST, ROUTE, down);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(propose(&api, &run).await.expect("an answer").status);
    }
    assert_eq!(statuses, [201, 500, 500, 200]);
}
