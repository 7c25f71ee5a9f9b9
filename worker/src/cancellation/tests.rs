use serde_json::{Map, json};

use worker_api::{ClientOptions, types::ProposedState};
use worker_config::settings::{self, Sources};
use worker_server::{Server, ServerOptions};

use super::*;
use crate::task;

/// Time between looks. Nothing here depends on how long it is.
const INTERVAL: Duration = Duration::from_millis(20);

/// A server with flow runs on it, and a lookout for them.
struct Watchtower {
    _server: Server,
    client: Client,
    ours: Vec<FlowRunId>,
    ours_tx: mpsc::Sender<Vec<FlowRunId>>,
    events_rx: mpsc::Receiver<Event>,
    _keeping: task::Task<()>,
}

// === impl Watchtower ===

impl Watchtower {
    async fn man(count: usize) -> Self {
        let server = Server::start(ServerOptions::default())
            .await
            .expect("it starts");
        let client = Client::new(ClientOptions::new(server.url().clone())).expect("it is right");
        let mut ours = Vec::new();
        for _ in 0..count {
            ours.push(make_run(&client).await);
        }
        let (ours_tx, ours_rx) = mpsc::channel(1);
        let (_soon_tx, soon_rx) = mpsc::channel(1);
        let (events_tx, events_rx) = mpsc::channel(8);
        let mut settings = settings::load(&Sources::default()).expect("the defaults are right");
        settings.worker.cancellation_interval = INTERVAL;
        let (_, settings_rx) = watch::channel(Arc::new(settings));
        let lookout = Lookout {
            client: client.clone(),
            settings_rx,
            ours_rx,
            soon_rx,
            events_tx,
        };
        Self {
            _server: server,
            client,
            ours,
            ours_tx,
            events_rx,
            _keeping: task::spawn("cancellation", lookout.keep()),
        }
    }

    async fn set(&self, run: usize, state: StateType) {
        let proposal = ProposedState::new(state);
        let stored = self.client.force_state(self.ours[run], &proposal).await;
        stored.expect("it is stored");
    }

    /// Has the lookout look so many times; gives what it told after each.
    async fn looks(&mut self, count: usize) -> Vec<Vec<FlowRunId>> {
        let mut told = Vec::new();
        while told.len() <= count {
            match self.events_rx.recv().await.expect("it looks") {
                Event::CancellationDue => {
                    told.push(Vec::new());
                    let ours = self.ours.clone();
                    self.ours_tx.send(ours).await.expect("it listens");
                }
                Event::Cancelled(ids) => {
                    told.last_mut().expect("it asked first").extend(ids);
                }
                other => panic!("{other:?}"),
            }
        }
        told.truncate(count);
        told
    }
}

async fn make_run(client: &Client) -> FlowRunId {
    let flow = client.create_flow("watched").await.expect("it is made");
    let deployment = json!({ "name": "watched", "flow_id": flow.id });
    let deployment = client.create_deployment(&deployment).await;
    let id = deployment.expect("it is made").id;
    let run = client
        .create_flow_run(id, Map::new(), None, None, Vec::new())
        .await;
    let id = run.expect("it is made").id;
    // One that does not run yet is cancelled without further ado.
    let running = ProposedState::new(StateType::Running);
    client.force_state(id, &running).await.expect("it runs");
    id
}

#[tokio::test]
async fn who_is_cancelling_is_told_at_once() {
    let mut tower = Watchtower::man(2).await;
    tower.set(1, StateType::Cancelling).await;
    let told = tower.looks(1).await;
    assert_eq!(told, [vec![tower.ours[1]]]);
}

#[tokio::test]
async fn who_is_cancelled_may_be_about_to_end_by_itself_and_is_told_at_the_second_look() {
    let mut tower = Watchtower::man(1).await;
    tower.set(0, StateType::Cancelled).await;
    let id = tower.ours[0];
    assert_eq!(tower.looks(3).await, [vec![], vec![id], vec![id]]);
}
