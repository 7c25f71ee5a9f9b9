//! Tells in a flow run's log that its engine does not answer, and that it does again: whoever looks at the run page meanwhile sees why nothing happens.

use std::{convert::Infallible, time::Duration};

use tokio::sync::watch;

use worker_api::types::FlowRunId;
use worker_drivers::Health;

use crate::services::Services;

/// How long an engine may be away before anybody need know.
const SHORT: Duration = Duration::from_secs(5);

/// Tells of each silence of the engine once, until its owner drops it.
pub(crate) async fn tell(services: &Services, flow_run: FlowRunId) -> Infallible {
    let mut health_rx = services.driver.health();
    loop {
        let reason = down(&mut health_rx).await;
        if tokio::time::timeout(SHORT, up(&mut health_rx))
            .await
            .is_ok()
        {
            continue;
        }
        let message = format!(
            "The job cannot be watched at present: {reason}. Nothing is known to have happened to it; this worker goes on as soon as it can."
        );
        services.run_log.mention(flow_run, message).await;
        up(&mut health_rx).await;
        let message = "The job is watched again.".to_owned();
        services.run_log.mention(flow_run, message).await;
    }
}

/// Waits until the engine is down; why it is.
async fn down(health_rx: &mut watch::Receiver<Health>) -> String {
    loop {
        if let Health::Down { reason } = &*health_rx.borrow_and_update() {
            return reason.clone();
        }
        changed(health_rx).await;
    }
}

async fn up(health_rx: &mut watch::Receiver<Health>) {
    while *health_rx.borrow_and_update() != Health::Up {
        changed(health_rx).await;
    }
}

/// A driver that is gone changes no more.
async fn changed(health_rx: &mut watch::Receiver<Health>) {
    if health_rx.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
