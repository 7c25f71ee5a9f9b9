//! The way into the logs of flow runs: lines from many lives, sent in few requests.

use std::{
    collections::HashSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use worker_api::{
    Client,
    types::{FlowRunId, LogEntry, LogLevel},
};

use crate::{patience::Patience, telemetry::chain};

/// How many lines may wait. A job that writes faster than the API takes is slowed down at the reading, never in its writing.
const QUEUE: usize = 4_096;

/// How many lines go into one request, so that one is answered well within its time limit.
const BATCH_LINES: usize = 1_000;

/// How long the last lines of a flow run may take to reach its log before the life goes on without them.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);

/// The sending end. One per worker.
#[derive(Debug)]
pub(crate) struct RunLog {
    items_tx: Option<mpsc::Sender<Item>>,
    /// Flow runs with lines that may not have been sent yet: a flush of any other costs nothing.
    unsent: Mutex<HashSet<FlowRunId>>,
    dropped: AtomicU64,
}

/// How lines are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shipping {
    /// How long a line may wait for others.
    pub(crate) interval: Duration,
    /// How many bytes a request may have.
    pub(crate) batch_size: usize,
    /// How many bytes a line may have.
    pub(crate) max_line: usize,
}

#[derive(Debug)]
pub(crate) enum Item {
    Line(LogEntry),
    Flush(oneshot::Sender<()>),
}

// === impl RunLog ===

impl RunLog {
    /// A log that sends nothing, for operators who turned it off.
    pub(crate) fn off() -> Self {
        Self {
            items_tx: None,
            unsent: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }

    /// A log and the queue that [`ship`] empties.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Item>) {
        let (items_tx, items_rx) = mpsc::channel(QUEUE);
        (
            Self {
                items_tx: Some(items_tx),
                ..Self::off()
            },
            items_rx,
        )
    }

    /// Sends one line that must have been sent before its flow run is let go of; waits while the queue is full.
    pub(crate) async fn send(&self, entry: LogEntry) {
        if let Some(flow_run) = entry.flow_run_id {
            self.unsent
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(flow_run);
        }
        self.queue(entry).await;
    }

    async fn queue(&self, entry: LogEntry) {
        let Some(items_tx) = &self.items_tx else {
            return;
        };
        if items_tx.send(Item::Line(entry)).await.is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says something about a flow run in its own log, as the worker.
    pub(crate) async fn say(&self, flow_run: FlowRunId, level: LogLevel, message: String) {
        self.send(from_worker(flow_run, level, message)).await;
    }

    /// The same for what is nice to know, also for whoever reads the worker's own log: it goes with the next request, and no end waits for it.
    pub(crate) async fn mention(&self, flow_run: FlowRunId, message: String) {
        tracing::info!("{message}");
        self.queue(from_worker(flow_run, LogLevel::INFO, message))
            .await;
    }

    /// Waits until the lines of a flow run have been sent, within a limit. False: they are still on their way.
    pub(crate) async fn flush(&self, flow_run: FlowRunId) -> bool {
        let had_lines = self.unsent().remove(&flow_run);
        let Some(items_tx) = self.items_tx.as_ref().filter(|_| had_lines) else {
            return true;
        };
        let sent = flush(items_tx, FLUSH_LIMIT).await;
        if !sent {
            tracing::warn!(%flow_run, "the last lines of its log are not sent yet");
            self.unsent().insert(flow_run);
        }
        sent
    }

    fn unsent(&self) -> MutexGuard<'_, HashSet<FlowRunId>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything has been sent, within a limit: for the end of the worker.
    pub(crate) async fn flush_all(&self, limit: Duration) {
        if let Some(items_tx) = &self.items_tx
            && !flush(items_tx, limit).await
        {
            tracing::warn!("some lines of flow runs could not be sent");
        }
    }
}

fn from_worker(flow_run: FlowRunId, level: LogLevel, message: String) -> LogEntry {
    LogEntry {
        name: "prefect.flow_runs.worker".to_owned(),
        level,
        message,
        timestamp: Timestamp::now(),
        flow_run_id: Some(flow_run),
    }
}

async fn flush(items_tx: &mpsc::Sender<Item>, limit: Duration) -> bool {
    let (done_tx, done_rx) = oneshot::channel();
    let flushed =
        async { items_tx.send(Item::Flush(done_tx)).await.is_ok() && done_rx.await.is_ok() };
    tokio::time::timeout(limit, flushed).await.unwrap_or(false)
}

/// Sends what the lives say, until the last of them is gone.
pub(crate) async fn ship(client: Client, shipping: Shipping, mut items_rx: mpsc::Receiver<Item>) {
    let mut batch = Batch::default();
    loop {
        let first = batch.opened.map(|opened| opened + shipping.interval);
        let item = tokio::select! {
            item = items_rx.recv() => item,
            () = sleep_until(first) => {
                batch.send(&client).await;
                continue;
            }
        };
        match item {
            None => return batch.send(&client).await,
            Some(Item::Line(line)) => batch.push(line, shipping.max_line),
            Some(Item::Flush(done_tx)) => batch.waiting.push(done_tx),
        }
        // Everything that is there already belongs to this request: flushes that come together cost one.
        while !batch.is_full(shipping.batch_size)
            && let Ok(item) = items_rx.try_recv()
        {
            match item {
                Item::Line(line) => batch.push(line, shipping.max_line),
                Item::Flush(done_tx) => batch.waiting.push(done_tx),
            }
        }
        if !batch.waiting.is_empty() || batch.is_full(shipping.batch_size) {
            batch.send(&client).await;
        }
    }
}

#[derive(Default)]
struct Batch {
    lines: Vec<LogEntry>,
    bytes: usize,
    opened: Option<Instant>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn push(&mut self, mut line: LogEntry, max_line: usize) {
        if line.message.contains('\0') {
            // PostgreSQL has no such character, and one of them would cost the whole request.
            line.message = line.message.replace('\0', "\u{fffd}");
        }
        truncate(&mut line.message, max_line);
        self.bytes += line.message.len();
        self.opened.get_or_insert_with(Instant::now);
        self.lines.push(line);
    }

    fn is_full(&self, batch_size: usize) -> bool {
        self.lines.len() >= BATCH_LINES || self.bytes >= batch_size
    }

    async fn send(&mut self, client: &Client) {
        let lines = std::mem::take(&mut self.lines);
        (self.bytes, self.opened) = (0, None);
        if !lines.is_empty() {
            deliver(client, &lines).await;
        }
        for done_tx in self.waiting.drain(..) {
            // Who waited may have given up.
            done_tx.send(()).ok();
        }
    }
}

/// Sends lines until the API has taken them. While it cannot, the queue fills up and jobs' output waits in their files, where it is safe.
async fn deliver(client: &Client, lines: &[LogEntry]) {
    let mut patience = Patience::new();
    while let Err(error) = client.send_logs(lines).await {
        if !error.is_transient() {
            tracing::warn!(error = %chain(&error), lines = lines.len(), "lines of flow runs are lost: the API does not take them");
            return;
        }
        tracing::warn!(error = %chain(&error), lines = lines.len(), "lines of flow runs wait for the API");
        patience.wait().await;
    }
}

/// Cuts a line that is too long, and says so at its end, as the reference does.
fn truncate(message: &mut String, max: usize) {
    const MARK: &str = "... [truncated]";
    if message.len() > max {
        let keep = message.floor_char_boundary(max.saturating_sub(MARK.len()));
        message.truncate(keep);
        message.push_str(MARK);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
