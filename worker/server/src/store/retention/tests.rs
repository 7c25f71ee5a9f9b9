//! What goes and what stays.

use worker_api::types::{ProposedState, StateType};

use super::*;
use crate::events::EventFilter;
use crate::store::{
    events, logs, runs, states,
    tests::{deployment, memory, run},
};

#[tokio::test]
async fn what_has_been_kept_long_enough_goes_and_the_rest_stays() {
    let store = memory();
    let left = store
        .run(|tx| {
            let deployment = deployment(tx, &serde_json::json!({}))?;
            let (ended, waiting) = (run(tx, deployment)?, run(tx, deployment)?);
            let completed = ProposedState::new(StateType::Completed);
            states::propose(tx, ended, &completed, false)?;
            let log = serde_json::json!([{ "name": "n", "level": 20, "message": "m",
                "timestamp": tx.now, "flow_run_id": waiting }]);
            logs::create(tx, &serde_json::from_value::<Vec<_>>(log)?)?;
            assert_eq!(prune(tx)?, 0, "nothing is old yet");
            tx.now += SignedDuration::from_hours(24 * 8);
            assert!(prune(tx)? > 0, "events go first");
            let any = events::filter(tx, &EventFilter::default(), 0, 1)?;
            assert_eq!(any.total, 0);
            tx.now += SignedDuration::from_hours(24 * 23);
            assert_eq!(prune(tx)?, 1, "then the log");
            runs::read(tx, ended)?;
            tx.now += SignedDuration::from_hours(24 * 60);
            assert_eq!(prune(tx)?, 1, "then the flow run that ended");
            assert!(matches!(runs::read(tx, ended), Err(Error::NotFound(_))));
            runs::read(tx, waiting).map(drop)
        })
        .await;
    left.expect("what waits is kept");
}
