//! Commands, their transactions and their answers.

use worker_api::types::{DeploymentId, FlowRunId, ProposedState, StateType};

use super::*;
use crate::store::{deployments::DeploymentBody, flows::FlowCreate, pools::PoolCreate};

fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("a body")
}

pub(crate) fn memory() -> Store {
    Store::open(&Storage::Memory, Hub::new()).expect("a database")
}

/// Makes a pool, a flow and a deployment with further fields.
pub(crate) fn deployment(tx: &mut Tx<'_>, more: &serde_json::Value) -> Result<DeploymentId, Error> {
    let pool: PoolCreate = read(serde_json::json!({ "name": "p", "type": "process" }));
    pools::create(tx, &pool)?;
    let flow: FlowCreate = read(serde_json::json!({ "name": "f" }));
    let (flow, _) = flows::create(tx, &flow)?;
    let flow = serde_json::to_value(flow)?;
    let mut body = serde_json::json!({ "name": "d", "flow_id": flow["id"], "work_pool_name": "p" });
    body.as_object_mut()
        .expect("an object")
        .extend(more.as_object().cloned().unwrap_or_default());
    let (view, _) = deployments::upsert(tx, &read::<DeploymentBody>(body))?;
    Ok(view.id.parse().expect("an id"))
}

/// Makes a flow run of a deployment.
pub(crate) fn run(tx: &mut Tx<'_>, deployment: DeploymentId) -> Result<FlowRunId, Error> {
    deployment_runs::create(tx, deployment, read(serde_json::json!({}))).map(|(id, _)| id)
}

/// The type and name a flow run is in.
pub(crate) fn state(tx: &Tx<'_>, id: FlowRunId) -> Result<String, Error> {
    let view = serde_json::to_value(runs::read(tx, id)?)?;
    let text = |key: &str| view[key].as_str().unwrap_or("-").to_owned();
    Ok(format!("{} {}", text("state_type"), text("state_name")))
}

#[tokio::test]
async fn nothing_of_a_command_that_fails_is_kept() {
    let store = memory();
    let refused = store
        .run(|tx| {
            deployment(tx, &serde_json::json!({}))?;
            Err::<(), _>(Error::Bad("no".to_owned()))
        })
        .await;
    assert!(matches!(refused, Err(Error::Bad(_))));
    let found = store.run(|tx| pools::read(tx, "p").map(drop)).await;
    assert!(matches!(found, Err(Error::NotFound(_))), "{found:?}");
}

#[tokio::test]
async fn a_command_that_panics_ends_only_itself() {
    let store = memory();
    let panicked = store
        .run(|tx| -> Result<(), Error> {
            deployment(tx, &serde_json::json!({}))?;
            panic!("a bug");
        })
        .await;
    assert!(matches!(panicked, Err(Error::Panicked)));
    let after = store
        .run(|tx| deployment(tx, &serde_json::json!({})).map(drop))
        .await;
    assert!(after.is_ok(), "{after:?}");
}

#[tokio::test]
async fn commands_that_wait_together_are_each_answered() {
    let store = memory();
    let deployment = store
        .run(|tx| deployment(tx, &serde_json::json!({})))
        .await
        .expect("a deployment");
    let waiting = (0..200).map(|index| {
        let store = store.clone();
        async move {
            store
                .run(move |tx| match index % 3 {
                    0 => Err(Error::Bad(index.to_string())),
                    _ => run(tx, deployment),
                })
                .await
                .is_ok()
        }
    });
    let answers = futures::future::join_all(waiting).await;
    let expected: Vec<bool> = (0..200).map(|index| index % 3 != 0).collect();
    assert_eq!(answers, expected);
    let count = store
        .run(|tx| runs::count(tx, filter::Condition::default()))
        .await
        .expect("a count");
    assert_eq!(count, 133);
}

#[tokio::test]
async fn no_command_runs_when_its_transaction_cannot_begin() {
    let hub = Hub::new();
    let (jobs, queue) = mpsc::channel(QUEUE);
    let conn = Connection::open_in_memory().expect("a database");
    // There is one already, so that none can begin.
    conn.execute_batch("BEGIN").expect("a transaction");
    let thread = thread::spawn(move || {
        serve(&conn, queue, &hub);
        conn
    });
    let store = Store { jobs };
    let answer = store
        .run(|tx| Ok(tx.execute_batch("CREATE TABLE kept (id)")?))
        .await;
    assert!(matches!(answer, Err(Error::Unavailable)), "{answer:?}");
    drop(store);
    let conn = thread.join().expect("it does not panic");
    assert!(!conn.table_exists(None, "kept").expect("it can be asked"));
}

#[test]
fn no_command_runs_after_the_end_of_its_transaction() {
    let conn = Connection::open_in_memory().expect("a database");
    let (jobs, mut queue) = mpsc::channel(QUEUE);
    let make = |name: &str| -> Job {
        let sql = format!("CREATE TABLE {name} (id)");
        Box::new(move |tx| {
            tx.execute_batch(&sql).expect("it can be made");
            Box::new(|_| {})
        })
    };
    jobs.try_send(make("kept")).expect("there is room");
    // What SQLite does by itself when the disk is full.
    let end: Job = Box::new(|tx| {
        tx.execute_batch("ROLLBACK").expect("there is one");
        Box::new(|_| {})
    });
    let mut tx = Tx {
        conn: &conn,
        now: now(),
        outbox: RefCell::default(),
    };
    let mut answers = Vec::new();
    group(&mut tx, end, &mut queue, &mut answers).expect_err("there is nothing to commit");
    assert!(!conn.table_exists(None, "kept").expect("it can be asked"));
    group(&mut tx, make("first"), &mut queue, &mut answers).expect("it can begin");
    assert!(conn.table_exists(None, "kept").expect("it can be asked"));
}

#[tokio::test]
async fn events_are_told_for_what_was_committed_only() {
    let hub = Hub::new();
    let store = Store::open(&Storage::Memory, hub.clone()).expect("a database");
    let deployment = store
        .run(|tx| deployment(tx, &serde_json::json!({})))
        .await
        .expect("a deployment");
    let mut told = hub.subscribe();
    let refused = store
        .run(move |tx| {
            run(tx, deployment)?;
            Err::<(), _>(Error::Bad("no".to_owned()))
        })
        .await;
    assert!(refused.is_err());
    let id = store
        .run(move |tx| run(tx, deployment))
        .await
        .expect("a run");
    let pending = ProposedState::new(StateType::Pending);
    store
        .run(move |tx| states::propose(tx, id, &pending, false).map(drop))
        .await
        .expect("a state");
    let names: Vec<String> = std::iter::from_fn(|| told.try_recv().ok())
        .map(|event| event.name.clone())
        .collect();
    assert_eq!(
        names,
        ["prefect.flow-run.Scheduled", "prefect.flow-run.Pending"]
    );
}
