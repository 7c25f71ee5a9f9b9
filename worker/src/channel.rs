//! Keeps the worker channel open: heartbeats, the pool as it changes, and what is to be cleaned up, on one socket.
//!
//! While there is one, nobody sends heartbeats or reads the pool by REST. While there is none, `heartbeat` does both.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use worker_api::{
    Client, SocketError,
    channel::{ChannelEvent, Cleanup, WorkerChannel, WorkerHello},
    types::FlowRunId,
};
use worker_config::settings::WorkerSettings;

use crate::{heartbeat::PoolWish, services::Services, telemetry::chain, wakeup};

/// The first wait before a lost channel is opened again (3.8.8).
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest (3.8.8).
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long until a server that refuses is asked again: it may be upgraded, or its pool be made anew.
const REFUSED_WAIT: Duration = Duration::from_mins(5);

/// How this worker introduces itself.
pub(crate) fn hello(settings: &WorkerSettings, worker: &str, wish: &PoolWish) -> WorkerHello {
    WorkerHello {
        pool: wish.pool.clone(),
        worker: worker.to_owned(),
        kind: wish.kind.as_str().to_owned(),
        work_queues: settings.work_queues.clone(),
        heartbeat_interval: settings.heartbeat_interval,
        template: wish.template.clone(),
        consumer: Uuid::now_v7(),
    }
}

/// Keeps a channel open until its owner drops it. What it shows of the pool is in `Services::channel_pool`.
pub(crate) async fn keep(
    client: Client,
    services: Arc<Services>,
    hello: WorkerHello,
    cancellation_tx: mpsc::Sender<FlowRunId>,
) {
    // The pool exists once its id is known, and a channel to a pool that does not is refused.
    let mut id_rx = services.pool_id.subscribe();
    if id_rx.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let mut wait = FIRST_WAIT;
    loop {
        let error = match client.open_worker_channel(hello.clone()).await {
            Ok((channel, pool)) => {
                tracing::debug!("the worker channel is open");
                let opened = Instant::now();
                services.metrics.heartbeat(true);
                services.channel_pool.send_replace(Some(pool));
                let error = serve(channel, &services, &cancellation_tx).await;
                if opened.elapsed() > LONGEST_WAIT {
                    wait = FIRST_WAIT;
                }
                error
            }
            Err(error) => error,
        };
        // Who waits for changes need not hear of a channel that was never there.
        services
            .channel_pool
            .send_if_modified(|pool| pool.take().is_some());
        let pause = if error.may_pass() { wait } else { REFUSED_WAIT };
        tracing::debug!(error = %chain(&error), ?pause, "no worker channel; heartbeats go by REST");
        tokio::time::sleep(wakeup::spread(pause)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Serves an open channel until it is gone.
async fn serve(
    mut channel: WorkerChannel,
    services: &Services,
    cancellation_tx: &mpsc::Sender<FlowRunId>,
) -> SocketError {
    loop {
        let answered = match channel.next().await {
            Ok(ChannelEvent::Beat) => {
                services.metrics.heartbeat(true);
                Ok(())
            }
            Ok(ChannelEvent::Pool(pool)) => {
                services.channel_pool.send_replace(Some(*pool));
                Ok(())
            }
            Ok(ChannelEvent::Cleanup(cleanup)) => {
                clean_up(&mut channel, services, cancellation_tx, cleanup).await
            }
            Err(error) => return error,
        };
        if let Err(error) = answered {
            return error;
        }
    }
}

/// Sees to it that a flow run's job ends, if it is ours. The journal holds it until then, whatever becomes of this process, so the server need
/// not remember it.
async fn clean_up(
    channel: &mut WorkerChannel,
    services: &Services,
    cancellation_tx: &mpsc::Sender<FlowRunId>,
    cleanup: Cleanup,
) -> Result<(), SocketError> {
    let FlowRunId(id) = cleanup.target.flow_run_id;
    if !cleanup.is_teardown() {
        return channel.release(&cleanup).await;
    }
    if !matches!(services.journal.find_attempt(id).await, Ok(Some(_))) {
        return if is_nothing_left(services, &cleanup).await {
            channel.acknowledge(&cleanup).await
        } else {
            channel.release(&cleanup).await
        };
    }
    tracing::info!(flow_run = %id, "the server asks to clean up after it");
    // It may be about an earlier attempt, so whether this one is to end is asked of the API. The regular look finds it too.
    cancellation_tx.try_send(cleanup.target.flow_run_id).ok();
    channel.acknowledge(&cleanup).await
}

/// Whether there is nothing that any worker could remove: no infrastructure was ever named, or the flow run is gone.
async fn is_nothing_left(services: &Services, cleanup: &Cleanup) -> bool {
    let read = services
        .client
        .read_flow_run(cleanup.target.flow_run_id)
        .await;
    match read {
        Ok(flow_run) => flow_run.infrastructure_pid.is_none(),
        Err(error) => error.is_not_found(),
    }
}
