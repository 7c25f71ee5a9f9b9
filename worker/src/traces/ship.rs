//! Sends spans to a collector, in batches. One that is away loses them: a worker holds no more than its queue.

use std::time::Duration;

use prometheus::IntCounter;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use worker_api::Collector;
use worker_config::settings::TracesSettings;

use super::{Item, Span, wire};
use crate::{patience::Patience, telemetry::chain};

/// How many spans are sent at once, and how long they may wait for more: the defaults of OpenTelemetry's own batches.
const BATCH: usize = 512;
const DELAY: Duration = Duration::from_secs(5);

/// How often a batch is offered before it is given up. Those that wait behind it are dropped meanwhile, not the work.
const TRIES: usize = 3;

/// Sends until there is nobody left who could record anything.
pub(crate) async fn ship(
    collector: Collector,
    settings: TracesSettings,
    lost: IntCounter,
    mut items_rx: mpsc::Receiver<Item>,
) {
    let mut away = false;
    loop {
        let Some(first) = items_rx.recv().await else {
            return;
        };
        let (spans, waiting) = gather(first, &mut items_rx).await;
        if !spans.is_empty() {
            let sent = send(&collector, wire::request(&settings, &spans)).await;
            if sent.is_err() {
                lost.inc_by(spans.len() as u64);
            }
            tell(&mut away, sent, (spans.len(), lost.get()));
        }
        for done_tx in waiting {
            // Who waited may have given up.
            done_tx.send(()).ok();
        }
    }
}

/// Waits for more, until there are enough or somebody wants to be told.
async fn gather(
    first: Item,
    items_rx: &mut mpsc::Receiver<Item>,
) -> (Vec<Span>, Vec<tokio::sync::oneshot::Sender<()>>) {
    let deadline = Instant::now() + DELAY;
    let (mut spans, mut waiting) = (Vec::new(), Vec::new());
    let mut next = Some(first);
    while let Some(item) = next {
        match item {
            Item::Span(span) => spans.push(*span),
            Item::Flush(done_tx) => waiting.push(done_tx),
        }
        if spans.len() == BATCH || !waiting.is_empty() {
            break;
        }
        next = timeout_at(deadline, items_rx.recv()).await.ok().flatten();
    }
    (spans, waiting)
}

async fn send(collector: &Collector, body: Vec<u8>) -> Result<(), String> {
    let mut patience = Patience::new();
    let mut tries = 1;
    loop {
        match collector.post("application/x-protobuf", body.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) if error.may_pass() && tries < TRIES => {
                tries += 1;
                patience.wait().await;
            }
            Err(error) => return Err(chain(&error)),
        }
    }
}

/// Says when the collector goes away, and when it is back.
fn tell(away: &mut bool, sent: Result<(), String>, (count, lost): (usize, u64)) {
    match sent {
        Ok(()) if *away => {
            *away = false;
            tracing::info!(lost, "traces are taken again");
        }
        Ok(()) => tracing::debug!(count, "traces sent"),
        Err(error) if !*away => {
            *away = true;
            tracing::warn!(error, "traces cannot be sent; those of meanwhile are lost");
        }
        Err(error) => tracing::debug!(error, count, "traces lost"),
    }
}
