//! Keeping a deployment's slot while a flow run of ours has it.
//!
//! The server takes a slot back when nobody renews its lease: after the grace period of the deployment, a minute or more, or after what the
//! server is set to, half a minute or more (3.8.8). The engine renews it while it runs, but nobody does before, and nobody for a plain
//! command. Two renewals of one lease do no harm, so this one goes on to the end.

use std::{convert::Infallible, time::Duration};

use uuid::Uuid;

use crate::{services::Services, telemetry::chain};

/// How long a renewal holds.
const HOLDS: Duration = Duration::from_mins(5);

/// How often it is renewed: a renewal may fail once without loss.
const EVERY: Duration = Duration::from_mins(2);

/// Renews a lease until its owner drops it.
pub(crate) async fn keep(services: &Services, lease: Option<Uuid>) -> Infallible {
    let Some(lease) = lease else {
        return std::future::pending().await;
    };
    loop {
        // The first one at once: what the claim was given may be short.
        match services.client.renew_lease(lease, HOLDS).await {
            Ok(()) => {}
            // It was let go of, by the end of the flow run or by the server.
            Err(error) if error.is_not_found() => return std::future::pending().await,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the deployment's concurrency slot was not renewed");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
