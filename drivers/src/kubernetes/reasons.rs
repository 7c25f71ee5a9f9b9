//! What the cluster has recorded about a job that does not start, added to the reason that people read.

use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use super::{
    Shared,
    act::{Place, bounded},
    error,
};
use crate::job::{Outcome, RunKey};

/// How many records of one object are looked at.
const RECORDS: u32 = 50;

/// How much of what was recorded a reason takes in: a run page has little room.
const LONGEST: usize = 400;

/// Adds to the reason for which a job did not start what the cluster has recorded about it and its pod.
pub(super) async fn explain(
    shared: &Shared,
    place: &Place,
    key: RunKey,
    outcome: Outcome,
) -> Outcome {
    let Outcome::NeverStarted { reason } = outcome else {
        return outcome;
    };
    let mut uids: Vec<String> = match place.pods_of(shared, key).await {
        Ok(pods) => pods.into_iter().map(|pod| pod.uid).collect(),
        Err(_) => Vec::new(),
    };
    uids.push(place.uid.clone());
    let mut said: Vec<String> = Vec::new();
    for uid in uids {
        for record in warnings(shared, place, &uid).await {
            if !reason.contains(&record) && !said.contains(&record) {
                said.push(record);
            }
        }
    }
    let mut reason = reason;
    for record in said {
        if reason.len() + record.len() > LONGEST {
            continue;
        }
        reason = format!("{reason}; {record}");
    }
    Outcome::NeverStarted { reason }
}

async fn warnings(shared: &Shared, place: &Place, uid: &str) -> Vec<String> {
    let events: Api<Event> = Api::namespaced(place.cluster.control.clone(), &place.namespace);
    let selector = format!("involvedObject.uid={uid},type=Warning");
    let parameters = ListParams::default().fields(&selector).limit(RECORDS);
    match bounded(events.list(&parameters)).await {
        Ok(found) => {
            let mut found: Vec<Event> = found.items;
            found.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
            let messages = found.into_iter().rev().filter_map(|event| event.message);
            messages.map(|message| message.trim().to_owned()).collect()
        }
        Err(error) if error::is_forbidden(&error) => {
            shared.complain_once(
                "events/list",
                "this worker may not list events, so reasons for which jobs do not start lack what the cluster recorded",
            );
            Vec::new()
        }
        Err(error) => {
            let reason = error::message(&error);
            tracing::debug!(reason, "cannot read what the cluster has recorded");
            Vec::new()
        }
    }
}
