//! What a job writes: into the flow run's log for plain commands, to the worker's own output where the pool asks for it, and the last lines
//! into memory, for the reason a crash needs.

use std::{collections::VecDeque, io::Write, time::Duration};

use futures::{StreamExt, stream::Fuse};

use worker_api::types::{FlowRunId, LogEntry, LogLevel};
use worker_drivers::{Handle, LogCursor, LogLine, LogStream, OutputStream, Recovered};

use crate::{
    journal::{Entry, Reporter},
    services::Services,
    telemetry::chain,
};

/// How many last lines are kept for the report.
const TAIL_LINES: usize = 50;

/// How many characters of each of them. A traceback's lines are shorter; what is longer is data.
const TAIL_WIDTH: usize = 1_000;

/// How many lines may be read between two notes in the journal of how far it came: what a restart may repeat.
const NOTE_EVERY: u32 = 1_000;

/// How long to wait after a read that failed.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// How long the rest of a job's output may take.
const REST_LIMIT: Duration = Duration::from_mins(5);

/// The reading of one job's output.
pub(crate) struct Output<'a> {
    services: &'a Services,
    entry: Entry,
    lines: Fuse<LogStream>,
    tail: VecDeque<String>,
    unnoted: u32,
}

// === impl Output ===

impl<'a> Output<'a> {
    pub(crate) fn new(services: &'a Services, entry: Entry, handle: &Handle) -> Self {
        let lines = services.driver.logs(handle, entry.output).fuse();
        Self {
            services,
            entry,
            lines,
            tail: VecDeque::new(),
            unnoted: 0,
        }
    }

    /// Reads until the job has ended and everything was read.
    pub(crate) async fn read(&mut self) {
        while let Some(line) = self.lines.next().await {
            match line {
                Ok(line) => self.take(line).await,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "the job's output cannot be read now");
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
    }

    /// Waits until what was read has reached the flow run's log. False: it is still on its way.
    pub(crate) async fn delivered(&mut self) -> bool {
        self.services
            .run_log
            .flush(FlowRunId(self.entry.key.flow_run))
            .await
    }

    /// The last lines, and how far the output was read.
    pub(crate) fn into_tail(self) -> (Vec<String>, LogCursor) {
        (self.tail.into(), self.entry.output)
    }

    async fn take(&mut self, line: LogLine) {
        let LogLine {
            stream,
            timestamp,
            text,
            next,
        } = line;
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(text.chars().take(TAIL_WIDTH).collect());
        if self.entry.shown && self.services.echo {
            echo(&self.entry.name, stream, &text);
        }
        if self.entry.shown && self.entry.reporter != Reporter::Engine {
            let logger = match stream {
                OutputStream::Stdout => "prefect.flow_runs.stdout",
                OutputStream::Stderr => "prefect.flow_runs.stderr",
            };
            let entry = LogEntry {
                name: logger.to_owned(),
                level: LogLevel::INFO,
                message: text,
                timestamp,
                flow_run_id: Some(FlowRunId(self.entry.key.flow_run)),
            };
            self.services.run_log.send(entry).await;
        }
        self.entry.output = next;
        self.unnoted += 1;
        if self.unnoted >= NOTE_EVERY && self.delivered().await {
            self.unnoted = 0;
            // A journal that is gone ends the life at its next step; here it only costs repeated lines.
            drop(self.services.journal.note(&self.entry).await);
        }
    }
}

/// Reads what could not be read before the job's end was told: its files are still there, and the API is back.
pub(crate) async fn read_rest(services: &Services, entry: &Entry) {
    let Some(handle) = &entry.handle else { return };
    // An earlier process may have come as far as removing it.
    if !matches!(
        services.driver.recover(handle).await,
        Ok(Recovered::Exited(_))
    ) {
        return;
    }
    let mut output = Output::new(services, entry.clone(), handle);
    if tokio::time::timeout(REST_LIMIT, output.read())
        .await
        .is_err()
    {
        tracing::warn!("not all of the output has reached the log");
    }
}

/// Waits until what was sent to the flow run's log has reached it, or has no hope of it.
pub(crate) async fn drained(services: &Services, entry: &Entry) {
    services.run_log.flush(FlowRunId(entry.key.flow_run)).await;
}

fn echo(name: &str, stream: OutputStream, text: &str) {
    // A closed output is no reason to stop reading: the job must not notice who listens.
    drop(match stream {
        OutputStream::Stdout => writeln!(std::io::stdout().lock(), "[{name}] {text}"),
        OutputStream::Stderr => writeln!(std::io::stderr().lock(), "[{name}] {text}"),
    });
}
