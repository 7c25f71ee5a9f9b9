//! What the server does by itself.

use serde_json::json;
use worker_api::types::{DeploymentId, FlowRunId};

use super::*;
use crate::store::tests::{deployment, memory, run, state};

/// Makes a flow run whose last state was entered, and which was due, so many seconds ago.
fn aged(
    tx: &mut Tx<'_>,
    deployment: DeploymentId,
    kinds: &[StateType],
    seconds: i64,
) -> Result<FlowRunId, Error> {
    let id = run(tx, deployment)?;
    for kind in kinds {
        states::propose(tx, id, &ProposedState::new(kind.clone()), true)?;
    }
    tx.execute(
        "UPDATE flow_run SET state_timestamp = state_timestamp - ?1,
            next_scheduled_start_time = next_scheduled_start_time - ?1 WHERE id = ?2",
        params![seconds * 1_000_000, id.to_string()],
    )?;
    Ok(id)
}

#[tokio::test]
async fn a_cancellation_that_nobody_finishes_ends_after_five_minutes() {
    let found = memory()
        .run(|tx| {
            let deployment = deployment(tx, &json!({}))?;
            let kinds = [StateType::Running, StateType::Cancelling];
            let (old, fresh) = (
                aged(tx, deployment, &kinds, 301)?,
                aged(tx, deployment, &kinds, 200)?,
            );
            end_cancellations(tx)?;
            Ok([state(tx, old)?, state(tx, fresh)?])
        })
        .await
        .expect("an answer");
    assert_eq!(found, ["CANCELLED Cancelled", "CANCELLING Cancelling"]);
}

#[tokio::test]
async fn a_run_that_nobody_took_is_late_and_stays_due() {
    let found = memory()
        .run(|tx| {
            let deployment = deployment(tx, &json!({}))?;
            let (old, fresh) = (
                aged(tx, deployment, &[], 16)?,
                aged(tx, deployment, &[], 5)?,
            );
            let claimed = aged(tx, deployment, &[StateType::Pending], 60)?;
            mark_late(tx)?;
            mark_late(tx)?;
            let due = find(tx, "next_scheduled_start_time <= ?", Micros(tx.now))?.len();
            Ok((
                [state(tx, old)?, state(tx, fresh)?, state(tx, claimed)?],
                due,
            ))
        })
        .await
        .expect("an answer");
    let expected = ["SCHEDULED Late", "SCHEDULED Scheduled", "PENDING Pending"];
    assert_eq!(found, (expected.map(str::to_owned), 2));
}

#[tokio::test]
async fn scheduled_runs_are_made_once_and_not_without_end() {
    let found = memory()
        .run(|tx| {
            let every_second = json!({ "schedules": [{ "schedule": { "interval": 1.0 } }] });
            deployment(tx, &every_second)?;
            let first = schedules::make_runs(tx)?;
            Ok((first, schedules::make_runs(tx)?))
        })
        .await
        .expect("an answer");
    assert_eq!(found, (60, 0));
}

#[tokio::test]
async fn a_schedule_makes_no_more_runs_than_it_may() {
    let made = memory()
        .run(|tx| {
            let bounded = json!({ "schedules": [{ "schedule": { "interval": 1.0 }, "max_scheduled_runs": 2 }] });
            deployment(tx, &bounded)?;
            schedules::make_runs(tx)
        })
        .await
        .expect("an answer");
    assert_eq!(made, 2);
}

#[tokio::test]
async fn a_lease_that_ran_out_is_forgotten() {
    let swept = memory()
        .run(|tx| {
            let options = json!({ "collision_strategy": "ENQUEUE", "grace_period_seconds": 0 });
            let limited = json!({ "concurrency_limit": 1, "concurrency_options": options });
            let deployment = deployment(tx, &limited)?;
            let id = run(tx, deployment)?;
            states::propose(tx, id, &ProposedState::new(StateType::Pending), false)?;
            leases::sweep(tx)
        })
        .await
        .expect("an answer");
    assert_eq!(swept, 1);
}
