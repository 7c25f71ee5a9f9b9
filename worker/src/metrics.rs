//! Numbers for operators, with bounded labels only: never a flow run, deployment or image.

use std::time::Duration;

use jiff::Timestamp;
use prometheus::{
    Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use worker_api::{
    ApiError,
    types::{OrchestrationResult, OrchestrationStatus, StateType},
};
use worker_drivers::Outcome;

use crate::{disk::Space, dispatcher::Load};

/// All numbers of one worker.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    polls: IntCounterVec,
    claims: IntCounterVec,
    schedule_lag: Histogram,
    start_duration: Histogram,
    finished: IntCounterVec,
    reported: IntCounterVec,
    heartbeats: IntCounterVec,
    lives: IntGaugeVec,
    slots_limit: IntGauge,
    disk_free: IntGaugeVec,
    process: ProcessGauges,
}

#[derive(Debug)]
struct ProcessGauges {
    resident: IntGauge,
    threads: IntGauge,
    open_files: IntGauge,
}

/// Bounds in seconds for how long after its time a flow run is claimed, and how long its start takes.
const SECONDS: [f64; 12] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];

// === impl Metrics ===

impl Metrics {
    /// Registers everything, under the labels that tell workers apart.
    pub(crate) fn new(pool: &str, kind: &str) -> Self {
        let labels = [("pool", pool), ("driver", kind)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let registry = Registry::new_custom(Some("worker".to_owned()), Some(labels))
            .expect("the prefix and labels are legal");
        let metrics = Self {
            polls: counter("polls_total", "Polls of the work pool.", "result"),
            claims: counter("claims_total", "Proposals of PENDING.", "result"),
            schedule_lag: seconds("schedule_lag_seconds", "Time from due to claimed."),
            start_duration: seconds(
                "start_duration_seconds",
                "Time the driver took to start a job.",
            ),
            finished: counter("jobs_finished_total", "Jobs that ended.", "outcome"),
            reported: counter(
                "states_reported_total",
                "States proposed at the end of a job.",
                "state",
            ),
            heartbeats: counter("heartbeats_total", "Heartbeats.", "result"),
            lives: IntGaugeVec::new(
                Opts::new("flow_runs", "Flow runs held, by phase."),
                &["phase"],
            )
            .expect("the name is legal"),
            slots_limit: gauge(
                "slots_limit",
                "The worker's limit on flow runs; 0 for none.",
            ),
            disk_free: IntGaugeVec::new(
                Opts::new(
                    "disk_free_bytes",
                    "Room on the disks of state and workspaces.",
                ),
                &["directory"],
            )
            .expect("the name is legal"),
            process: ProcessGauges {
                resident: gauge("process_resident_memory_bytes", "Resident memory."),
                threads: gauge("process_threads", "Threads."),
                open_files: gauge("process_open_fds", "Open file descriptors."),
            },
            registry,
        };
        metrics.register();
        metrics
    }

    /// All numbers in Prometheus' text format 0.0.4.
    pub(crate) fn render(&self) -> String {
        self.read_process();
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }

    pub(crate) fn polled(&self, due: Option<usize>) {
        let result = match due {
            None => "error",
            Some(0) => "empty",
            Some(_) => "flow_runs",
        };
        self.polls.with_label_values(&[result]).inc();
    }

    pub(crate) fn claimed(&self, answer: &Result<OrchestrationResult, ApiError>) {
        let result = match answer {
            Ok(answer) => match answer.status {
                OrchestrationStatus::Accept => "won",
                OrchestrationStatus::Reject => "rejected",
                OrchestrationStatus::Abort => "aborted",
                OrchestrationStatus::Wait => "wait",
            },
            Err(_) => "error",
        };
        self.claims.with_label_values(&[result]).inc();
    }

    pub(crate) fn schedule_lag(&self, due: Option<Timestamp>, claimed: Timestamp) {
        if let Some(due) = due {
            self.schedule_lag
                .observe(claimed.duration_since(due).as_secs_f64().max(0.0));
        }
    }

    pub(crate) fn started(&self, took: Duration) {
        self.start_duration.observe(took.as_secs_f64());
    }

    pub(crate) fn finished(&self, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Exited { code: 0, .. } => "succeeded",
            Outcome::Exited { .. } => "failed",
            Outcome::Signalled { by_us: true, .. } => "stopped",
            Outcome::Signalled { by_us: false, .. } => "signalled",
            Outcome::OutOfMemory { .. } => "out_of_memory",
            Outcome::NeverStarted { .. } => "never_started",
            Outcome::Lost { .. } => "lost",
        };
        self.finished.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn reported(&self, state: &StateType) {
        self.reported
            .with_label_values(&[state.as_str().to_ascii_lowercase()])
            .inc();
    }

    pub(crate) fn heartbeat(&self, sent: bool) {
        self.heartbeats
            .with_label_values(&[if sent { "ok" } else { "error" }])
            .inc();
    }

    pub(crate) fn load(&self, load: Load) {
        let set = |phase: &str, count: usize| {
            self.lives
                .with_label_values(&[phase])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        set("waiting", load.waiting);
        set("starting", load.starting);
        set("running", load.lives - load.starting);
    }

    pub(crate) fn slots_limit(&self, limit: Option<usize>) {
        self.slots_limit.set(
            limit
                .and_then(|limit| i64::try_from(limit).ok())
                .unwrap_or(0),
        );
    }

    pub(crate) fn disks(&self, spaces: &[Space]) {
        for space in spaces {
            self.disk_free
                .with_label_values(&[space.what])
                .set(i64::try_from(space.free).unwrap_or(i64::MAX));
        }
    }

    fn register(&self) {
        let Self {
            registry,
            polls,
            claims,
            schedule_lag,
            start_duration,
            finished,
            reported,
            heartbeats,
            lives,
            slots_limit,
            disk_free,
            process:
                ProcessGauges {
                    resident,
                    threads,
                    open_files,
                },
        } = self;
        let all: [Box<dyn prometheus::core::Collector>; 13] = [
            Box::new(polls.clone()),
            Box::new(claims.clone()),
            Box::new(schedule_lag.clone()),
            Box::new(start_duration.clone()),
            Box::new(finished.clone()),
            Box::new(reported.clone()),
            Box::new(heartbeats.clone()),
            Box::new(lives.clone()),
            Box::new(slots_limit.clone()),
            Box::new(disk_free.clone()),
            Box::new(resident.clone()),
            Box::new(threads.clone()),
            Box::new(open_files.clone()),
        ];
        for collector in all {
            registry
                .register(collector)
                .expect("no two series share a name");
        }
    }

    /// Reads this process' own figures at each scrape; outside Linux they stay 0.
    fn read_process(&self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<i64>().ok()
        };
        self.process
            .resident
            .set(field("VmRSS:").unwrap_or(0) * 1024);
        self.process.threads.set(field("Threads:").unwrap_or(0));
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.process
            .open_files
            .set(i64::try_from(open).unwrap_or(0));
    }
}

fn counter(name: &str, help: &str, label: &str) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), &[label]).expect("the name is legal")
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect("the name is legal")
}

fn seconds(name: &str, help: &str) -> Histogram {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))
        .expect("the name is legal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_rendered_with_the_labels_of_its_worker() {
        let metrics = Metrics::new("demo", "process");
        metrics.polled(Some(0));
        metrics.load(Load {
            lives: 3,
            starting: 1,
            waiting: 2,
        });
        let text = metrics.render();
        let line = |name: &str, part: &str| {
            text.lines()
                .find(|line| line.starts_with(name) && line.contains(part))
                .unwrap_or_else(|| panic!("no {name} with {part} in {text}"))
        };
        let polls = line("worker_polls_total{", r#"result="empty""#);
        assert!(
            polls.contains(r#"pool="demo""#) && polls.contains(r#"driver="process""#),
            "{polls}"
        );
        assert!(line("worker_flow_runs{", r#"phase="running""#).ends_with(" 2"));
        assert!(!line("worker_process_resident_memory_bytes{", "").ends_with(" 0"));
    }
}
