use worker_api::{ClientOptions, types::EventFilter};
use worker_server::{Server, ServerOptions};

use super::*;
use crate::task;

const LIMIT: Duration = Duration::from_secs(10);

async fn server() -> Server {
    Server::start(ServerOptions::default())
        .await
        .expect("it starts")
}

fn client(server: &Server) -> Client {
    Client::new(ClientOptions::new(server.url().clone())).expect("the URL is right")
}

fn worker() -> Worker {
    Worker {
        name: "w".to_owned(),
        kind: "process".to_owned(),
        pool: "p".to_owned(),
    }
}

/// Starts and stops a worker, and gives the names of the events that the server was told.
async fn told(websockets: bool) -> Vec<String> {
    let server = server().await;
    let client = client(&server);
    let pool = Uuid::now_v7();
    let filter = EventFilter {
        names: vec![
            "prefect.worker.started".to_owned(),
            "prefect.worker.stopped".to_owned(),
        ],
        resource: format!("prefect.work-pool.{pool}"),
        since: Timestamp::now() - Duration::from_mins(1),
    };
    let mut feed = client.subscribe(&filter).await.expect("it listens");
    let (emitter, items_rx) = Emitter::new(worker());
    let shipping = task::spawn("events", ship(client.clone(), websockets, items_rx));
    emitter.started(pool);
    emitter.stopped(LIMIT).await;
    let mut names = Vec::new();
    while names.len() < 2 {
        let event = tokio::time::timeout(LIMIT, feed.next()).await;
        names.push(event.expect("in time").expect("the socket lives").name);
    }
    drop((emitter, shipping));
    names
}

#[tokio::test]
async fn events_reach_the_feed_in_order_over_a_socket() {
    assert_eq!(
        told(true).await,
        ["prefect.worker.started", "prefect.worker.stopped"]
    );
}

#[tokio::test]
async fn events_reach_the_feed_without_sockets() {
    assert_eq!(
        told(false).await,
        ["prefect.worker.started", "prefect.worker.stopped"]
    );
}

#[tokio::test]
async fn a_worker_that_was_never_announced_takes_no_leave() {
    let (emitter, mut items_rx) = Emitter::new(worker());
    emitter.stopped(LIMIT).await;
    assert!(items_rx.try_recv().is_err());
}

#[tokio::test]
async fn events_that_nobody_takes_are_counted_and_hold_up_nobody() {
    let (emitter, items_rx) = Emitter::new(worker());
    for _ in 0..QUEUE + 3 {
        emitter.started(Uuid::now_v7());
    }
    assert_eq!(emitter.dropped.load(Ordering::Relaxed), 3);
    drop(items_rx);
}

#[tokio::test]
async fn what_an_earlier_process_told_is_not_told_again() {
    let server = server().await;
    let client = client(&server);
    let made = Timestamp::now() - Duration::from_mins(1);
    let happening = |number: u128| Happening {
        key: worker_drivers::RunKey {
            flow_run: Uuid::nil(),
            attempt: 1,
        },
        id: Uuid::from_u128(number),
        name: "prefect.kubernetes.pod.running".to_owned(),
        occurred: made,
        resource: [("prefect.resource.id".to_owned(), number.to_string())].into(),
        labels: [("prefect.io/work-pool-id".to_owned(), "p".to_owned())].into(),
        follows: None,
        told_since: Some(made),
    };
    // More than the server is asked about at once.
    let known = 2 * EVENTS_PAGE as u128;
    let told: Vec<Event> = (0..known)
        .map(|number| worker().happened(happening(number)))
        .collect();
    client.post_events(&told).await.expect("it takes them");
    let again: Vec<(Uuid, Timestamp)> = (0..known + 3)
        .map(|number| (Uuid::from_u128(number), made))
        .collect();
    let found = find_told(&client, &again).await;
    assert_eq!(found, told.iter().map(|event| event.id).collect());
    let filter = EventFilter {
        names: vec!["again".to_owned()],
        resource: "prefect.work-pool.p".to_owned(),
        since: made,
    };
    let mut feed = client.subscribe(&filter).await.expect("it listens");
    let (emitter, items_rx) = Emitter::new(worker());
    let shipping = task::spawn("events", ship(client.clone(), false, items_rx));
    for number in [0, known] {
        let name = "again".to_owned();
        emitter.happened(Happening {
            name,
            ..happening(number)
        });
    }
    let event = tokio::time::timeout(LIMIT, feed.next()).await;
    let event = event.expect("in time").expect("the socket lives");
    assert_eq!(event.id, Uuid::from_u128(known));
    drop((emitter, shipping));
}
