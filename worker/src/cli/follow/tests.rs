use jiff::{SignedDuration, Timestamp};
use worker_api::{
    ClientOptions,
    types::{LogEntry, LogLevel},
};
use worker_server::{Server, ServerOptions};

use super::*;

#[tokio::test]
async fn a_line_that_comes_late_is_shown_although_it_stands_before_others() {
    let server = Server::start(ServerOptions::default())
        .await
        .expect("it starts");
    let client = Client::new(ClientOptions::new(server.url().clone())).expect("it is right");
    let id = FlowRunId(Uuid::now_v7());
    let now = Timestamp::now();
    let line = |seconds: i64, message: &str| LogEntry {
        name: "prefect.flow_runs".to_owned(),
        level: LogLevel::INFO,
        message: message.to_owned(),
        timestamp: now + SignedDuration::from_secs(seconds),
        flow_run_id: Some(id),
    };
    let out = Out::new(true);
    let mut shown = Shown::default();
    let early = [line(0, "first"), line(2, "third")];
    client.send_logs(&early).await.expect("they are taken");
    shown.go_on(&client, id, out).await.expect("it is read");
    assert_eq!((shown.lines, shown.last.len()), (2, 2));
    let late = [line(1, "second")];
    client.send_logs(&late).await.expect("it is taken");
    shown.go_on(&client, id, out).await.expect("it is read");
    assert_eq!((shown.lines, shown.last.len()), (3, 3));
}
