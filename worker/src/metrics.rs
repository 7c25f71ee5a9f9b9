//! Numbers for operators, with bounded labels only: never a flow run, deployment or image.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    time::Duration,
};

use jiff::Timestamp;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder, proto::MetricFamily,
};

use worker_api::{
    ApiError,
    types::{OrchestrationResult, OrchestrationStatus, StateType},
};
use worker_drivers::{Health, Outcome};

use crate::{disk::Space, dispatcher::Load};

/// All numbers of one worker.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    labels: Labels,
    acquisition: Acquisition,
    jobs: Jobs,
    heartbeats: IntCounterVec,
    /// Spans of traces that nobody got.
    pub(crate) spans_lost: IntCounter,
}

/// What tells workers apart.
type Labels = HashMap<String, String>;

/// How work is got.
#[derive(Debug)]
struct Acquisition {
    polls: IntCounterVec,
    last_poll: IntGauge,
    poll_interval: Gauge,
    takes_work: IntGauge,
    paused: IntGauge,
    slots_limit: IntGauge,
    disk_free: IntGaugeVec,
    flow_runs: IntGaugeVec,
    claims: IntCounterVec,
    schedule_lag: Histogram,
}

/// What becomes of it.
#[derive(Debug)]
struct Jobs {
    driver_up: IntGauge,
    watches_lost: IntCounter,
    start_duration: Histogram,
    duration: Histogram,
    finished: IntCounterVec,
    resumed: IntCounter,
    reported: IntCounterVec,
}

/// Bounds in seconds for how long after its time a flow run is claimed, and how long its start takes.
const SECONDS: [f64; 12] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];

/// Bounds in seconds for how long a job takes: from a command that does nothing to a day.
const LONG_SECONDS: [f64; 10] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 43_200.0, 86_400.0,
];

/// How many ticks of `/proc/self/stat` are a second: Linux has told programs 100 on every machine since 2.6.
const TICKS_A_SECOND: f64 = 100.0;

/// All numbers of the workers of a process in Prometheus' text format 0.0.4, with the requests that the API's client has counted.
///
/// What is of the process has the labels of its worker, where it has only one.
pub(crate) fn render(workers: &[&Metrics], several: bool, requests: &[(&str, u64)]) -> String {
    let labels = match workers {
        [only] if !several => only.labels.clone(),
        _ => Labels::new(),
    };
    let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
    let gathered = workers.iter().flat_map(|worker| worker.registry.gather());
    for mut family in gathered.chain(of_process(labels, requests).gather()) {
        match families.entry(family.name().to_owned()) {
            Entry::Vacant(first) => {
                first.insert(family);
            }
            Entry::Occupied(mut known) => {
                known.get_mut().mut_metric().extend(family.take_metric());
            }
        }
    }
    let families: Vec<MetricFamily> = families.into_values().collect();
    TextEncoder::new()
        .encode_to_string(&families)
        .unwrap_or_default()
}

/// This process' own figures and its requests, read anew at each scrape; outside Linux the figures are 0.
fn of_process(labels: Labels, requests: &[(&str, u64)]) -> Registry {
    let registry = registry(labels);
    let make = Make(&registry);
    let counted = make.counters(
        "api_requests_total",
        "Requests to the Prefect API, each try for itself, by the class of the answer's status.",
        "result",
    );
    for (result, count) in requests {
        counted.with_label_values(&[*result]).inc_by(*count);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<i64>().ok()
    };
    make.gauge("process_resident_memory_bytes", "Resident memory.")
        .set(field("VmRSS:").unwrap_or(0) * 1024);
    make.gauge("process_threads", "Threads.")
        .set(field("Threads:").unwrap_or(0));
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    make.gauge("process_open_fds", "Open file descriptors.")
        .set(whole(open));
    let cpu = std::fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| cpu_seconds(&stat))
        .unwrap_or(0.0);
    make.seconds_counter(
        "process_cpu_seconds_total",
        "Time on processors, in user and system mode.",
    )
    .inc_by(cpu);
    registry
}

fn registry(labels: Labels) -> Registry {
    Registry::new_custom(Some("worker".to_owned()), Some(labels))
        .expect("the prefix and labels are legal")
}

// === impl Metrics ===

impl Metrics {
    /// Registers everything, under the labels that tell workers apart.
    pub(crate) fn new(pool: &str, kind: &str) -> Self {
        let labels: Labels = [("pool", pool), ("driver", kind)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let registry = registry(labels.clone());
        let make = Make(&registry);
        make.build_info();
        Self {
            acquisition: Acquisition::new(&make),
            jobs: Jobs::new(&make),
            heartbeats: make.counters("heartbeats_total", "Heartbeats.", "result"),
            spans_lost: make.counter(
                "trace_spans_lost_total",
                "Spans of traces that no collector took: it was away, or slower than they came.",
            ),
            labels,
            registry,
        }
    }

    pub(crate) fn polled(&self, due: Option<usize>) {
        let result = match due {
            None => "error",
            Some(0) => "empty",
            Some(_) => "flow_runs",
        };
        self.acquisition.polls.with_label_values(&[result]).inc();
        if due.is_some() {
            self.acquisition.last_poll.set(Timestamp::now().as_second());
        }
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
        self.acquisition.claims.with_label_values(&[result]).inc();
    }

    pub(crate) fn schedule_lag(&self, due: Option<Timestamp>, claimed: Timestamp) {
        if let Some(due) = due {
            self.acquisition
                .schedule_lag
                .observe(claimed.duration_since(due).as_secs_f64().max(0.0));
        }
    }

    pub(crate) fn load(&self, load: Load, takes_work: bool) {
        let set = |phase: &str, count: usize| {
            self.acquisition
                .flow_runs
                .with_label_values(&[phase])
                .set(whole(count));
        };
        set("waiting", load.waiting);
        set("starting", load.starting);
        set("running", load.lives - load.starting);
        self.acquisition.takes_work.set(i64::from(takes_work));
    }

    pub(crate) fn paused(&self, paused: bool) {
        self.acquisition.paused.set(i64::from(paused));
    }

    pub(crate) fn disks(&self, spaces: &[Space]) {
        for space in spaces {
            self.acquisition
                .disk_free
                .with_label_values(&[space.what])
                .set(i64::try_from(space.free).unwrap_or(i64::MAX));
        }
    }

    /// What was set up: the limit on flow runs and the time between polls.
    pub(crate) fn set_up(&self, slots: Option<usize>, interval: Duration) {
        self.acquisition.slots_limit.set(slots.map_or(0, whole));
        self.acquisition.poll_interval.set(interval.as_secs_f64());
    }

    pub(crate) fn driver(&self, health: &Health) {
        self.jobs.driver_up.set(i64::from(*health == Health::Up));
    }

    pub(crate) fn watch_lost(&self) {
        self.jobs.watches_lost.inc();
    }

    pub(crate) fn started(&self, took: Duration) {
        self.jobs.start_duration.observe(took.as_secs_f64());
    }

    /// A job that was claimed then has ended now.
    pub(crate) fn finished(&self, outcome: &Outcome, claimed: Timestamp) {
        let lasted = Timestamp::now().duration_since(claimed).as_secs_f64();
        self.jobs.duration.observe(lasted.max(0.0));
        let outcome = match outcome {
            Outcome::Exited { code: 0, .. } => "succeeded",
            Outcome::Exited { .. } => "failed",
            Outcome::Signalled { by_us: true, .. } => "stopped",
            Outcome::Signalled { by_us: false, .. } => "signalled",
            Outcome::OutOfMemory { .. } => "out_of_memory",
            Outcome::NeverStarted { .. } => "never_started",
            Outcome::Lost { .. } => "lost",
        };
        self.jobs.finished.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn resumed(&self) {
        self.jobs.resumed.inc();
    }

    pub(crate) fn reported(&self, state: &StateType) {
        self.jobs
            .reported
            .with_label_values(&[state.as_str().to_ascii_lowercase()])
            .inc();
    }

    pub(crate) fn heartbeat(&self, sent: bool) {
        self.heartbeats
            .with_label_values(&[if sent { "ok" } else { "error" }])
            .inc();
    }
}

// === impl Acquisition ===

impl Acquisition {
    fn new(make: &Make<'_>) -> Self {
        Self {
            polls: make.counters("polls_total", "Polls of the work pool.", "result"),
            last_poll: make.gauge(
                "last_successful_poll_timestamp_seconds",
                "When the work pool was last polled with success; 0 before that.",
            ),
            poll_interval: make.seconds_gauge(
                "poll_interval_seconds",
                "Time between polls, as it is set up.",
            ),
            takes_work: make.gauge(
                "takes_work",
                "1 while the worker asks for flow runs, 0 while it is full, paused or cannot.",
            ),
            paused: make.gauge(
                "paused",
                "1 while somebody has paused this worker; a paused pool shows in takes_work only.",
            ),
            slots_limit: make.gauge(
                "slots_limit",
                "The worker's limit on flow runs; 0 for none.",
            ),
            disk_free: make.gauges(
                "disk_free_bytes",
                "Room on the disks of state and workspaces.",
                "directory",
            ),
            flow_runs: make.gauges("flow_runs", "Flow runs held, by phase.", "phase"),
            claims: make.counters("claims_total", "Proposals of PENDING.", "result"),
            schedule_lag: make.histogram(
                "schedule_lag_seconds",
                "Time from due to claimed.",
                &SECONDS,
            ),
        }
    }
}

// === impl Jobs ===

impl Jobs {
    fn new(make: &Make<'_>) -> Self {
        Self {
            driver_up: make.gauge("driver_up", "1 while the driver's engine takes work."),
            watches_lost: make.counter(
                "driver_watches_lost_total",
                "How often the engine's events were lost and read anew.",
            ),
            start_duration: make.histogram(
                "start_duration_seconds",
                "Time the driver took to start a job.",
                &SECONDS,
            ),
            duration: make.histogram(
                "job_duration_seconds",
                "Time from the claim of a flow run to the end of its job.",
                &LONG_SECONDS,
            ),
            finished: make.counters("jobs_finished_total", "Jobs that ended.", "outcome"),
            resumed: make.counter(
                "flow_runs_resumed_total",
                "Flow runs that an earlier process of this worker had claimed.",
            ),
            reported: make.counters(
                "states_reported_total",
                "States proposed at the end of a job.",
                "state",
            ),
        }
    }
}

// === functions ===

/// User and system time of a line of `/proc/PID/stat`: its 14th and 15th fields, counted behind the program's name, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) / TICKS_A_SECOND)
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Makes series and registers them.
struct Make<'a>(&'a Registry);

// === impl Make ===

impl Make<'_> {
    fn build_info(&self) {
        let options = Opts::new("build_info", "1, with the worker's version.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let made = IntGauge::with_opts(options).expect("the name is legal");
        made.set(1);
        self.register(made);
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help).expect("the name is legal"))
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        let made = IntCounterVec::new(Opts::new(name, help), &[label]);
        self.register(made.expect("the name is legal"))
    }

    fn seconds_counter(&self, name: &str, help: &str) -> Counter {
        self.register(Counter::new(name, help).expect("the name is legal"))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help).expect("the name is legal"))
    }

    fn seconds_gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::new(name, help).expect("the name is legal"))
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        let made = IntGaugeVec::new(Opts::new(name, help), &[label]);
        self.register(made.expect("the name is legal"))
    }

    fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.register(Histogram::with_opts(options).expect("the name is legal"))
    }

    fn register<C: prometheus::core::Collector + Clone + 'static>(&self, made: C) -> C {
        self.0
            .register(Box::new(made.clone()))
            .expect("no two series share a name");
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_rendered_with_the_labels_of_its_worker() {
        let metrics = Metrics::new("demo", "process");
        metrics.polled(Some(0));
        let load = Load {
            lives: 3,
            starting: 1,
            waiting: 2,
        };
        metrics.load(load, false);
        let text = render(&[&metrics], false, &[("2xx", 7)]);
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
        assert!(line("worker_takes_work{", "").ends_with(" 0"));
        assert!(line("worker_api_requests_total{", r#"result="2xx""#).ends_with(" 7"));
        assert!(line("worker_build_info{", env!("CARGO_PKG_VERSION")).ends_with(" 1"));
        assert!(!line("worker_process_resident_memory_bytes{", "").ends_with(" 0"));
    }

    #[test]
    fn workers_of_one_process_are_told_apart_and_each_series_is_described_once() {
        let (one, other) = (
            Metrics::new("demo", "process"),
            Metrics::new("boxes", "docker"),
        );
        other.polled(None);
        let text = render(&[&one, &other], true, &[("2xx", 7)]);
        let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!(lines("worker_driver_up{"), 2, "{text}");
        assert_eq!(lines("# TYPE worker_driver_up "), 1);
        assert_eq!(lines(r#"worker_api_requests_total{result="2xx"} 7"#), 1);
        assert_eq!(lines("worker_process_threads "), 1);
    }

    #[test]
    fn a_program_may_be_called_anything_and_its_time_is_still_read() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 100";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (worker) S"), None);
    }
}
