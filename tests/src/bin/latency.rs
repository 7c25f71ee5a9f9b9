//! How soon a worker takes what is due, and how much it asks for that: ours beside the Python worker, on a real Prefect
//! server, both at their default settings.
//!
//! Run by `just latency`, which takes a quarter of an hour. It asserts nothing: what a machine can do is for people to
//! judge. Each worker reaches the server through a proxy of its own, so what is counted is what that worker asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use worker_tests::{
    files::root,
    http::Api,
    measure::say,
    prefect::{PrefectServer, Python},
    program::{Program, Running},
    proxy::CountingProxy,
    wait,
};

/// How many flow runs of a command are made for each worker, due at once.
const RUNS: usize = 60;

/// How many of a Python flow. Their engines talk past the proxy, so what is counted is the worker's.
const FLOW_RUNS: usize = 40;

/// The longest time between two of them; with less on average, so that none waits for another.
const GAP: Duration = Duration::from_secs(5);

/// How long a worker that has nothing to do is watched.
const IDLE: Duration = Duration::from_mins(3);

/// How long a worker may take to come to rest, after its start and after the last flow run.
const SETTLE: Duration = Duration::from_secs(20);

/// How long any single thing may take.
const BOUND: Duration = Duration::from_mins(2);

/// Requests that a worker makes whether or not there are flow runs.
const REGULAR: [&str; 4] = [
    "get_scheduled_flow_runs",
    "heartbeat",
    "flow_runs/filter",
    "workers/connect",
];

/// A worker to measure.
struct Contender {
    name: &'static str,
    pool: &'static str,
    program: Program,
    arguments: &'static [&'static str],
    proxy: CountingProxy,
}

/// What was measured.
struct Measured {
    idle: Counts,
    commands: Counts,
    flows: Counts,
    /// From due to claimed, in seconds, sorted.
    waits: Vec<f64>,
}

/// Requests, and how often each was made.
type Counts = BTreeMap<String, u32>;

fn main() {
    let python = Python::installed();
    let server = PrefectServer::start(&python);
    let prefect = python.bin().join("prefect").display().to_string();
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("."));
    let ours = own
        .with_file_name("worker-under-test")
        .display()
        .to_string();
    let contender = |name, pool, path: &str, arguments| {
        let proxy = CountingProxy::start(server.api().address()).expect("loopback has a free port");
        Contender {
            name,
            pool,
            program: Program::new(path)
                .with("PREFECT_API_URL", format!("http://{}/api", proxy.address()))
                .with("PATH", python.path()),
            arguments,
            proxy,
        }
    };
    let mut without = contender("worker, without sockets", "without", &ours, &[]);
    without.program = without.program.with("WORKER_API_WEBSOCKETS", "false");
    let contenders = [
        contender("Python worker", "python", &prefect, &["worker", "start"]),
        contender("worker", "with", &ours, &[]),
        without,
    ];
    let measured: Vec<(&str, Measured)> = contenders
        .iter()
        .map(|contender| (contender.name, measure(contender, server.api())))
        .collect();
    say("\n                          due to claimed, seconds     requests in    requests for");
    say(
        "                               p50     p90     max    an idle minute     a command        a flow",
    );
    for (name, measured) in &measured {
        print_row(name, measured);
    }
    for (name, measured) in &measured {
        print_requests(name, measured);
    }
}

/// Lets one worker be idle, then busy, then ends it.
fn measure(contender: &Contender, api: Api) -> Measured {
    say(&format!("{} …", contender.name));
    let pool = contender.pool;
    api.post("/work_pools/", &json!({"name": pool, "type": "process"}));
    let command = deploy(
        api,
        pool,
        "true",
        &json!({"job_variables": {"command": "true"}}),
    );
    let flow = deploy(
        api,
        pool,
        "quick",
        &json!({
            "entrypoint": "quick.py:quick",
            "path": ".",
            "pull_steps": [{"prefect.deployments.steps.set_working_directory": {
                "directory": root().join("tests/live/flows"),
            }}],
            "job_variables": {"env": {"PREFECT_API_URL": api.url()}},
        }),
    );
    let mut arguments = contender.arguments.to_vec();
    arguments.extend(["--pool", pool, "--type", "process", "--name", pool]);
    let worker = contender.program.start(&arguments);
    wait_for_poll(contender, &worker);
    pass(SETTLE);
    contender.proxy.take();
    pass(IDLE);
    let idle = contender.proxy.take();

    let runs = make_runs(api, &command, RUNS);
    let mut waits: Vec<f64> = runs.iter().map(|run| wait_of(api, run)).collect();
    waits.sort_by(f64::total_cmp);
    pass(SETTLE);
    let commands = contender.proxy.take();

    for run in make_runs(api, &flow, FLOW_RUNS) {
        wait_for_end(api, &run);
    }
    pass(SETTLE);
    Measured {
        idle,
        commands,
        flows: contender.proxy.take(),
        waits,
    }
}

/// Makes a deployment; its id.
fn deploy(api: Api, pool: &str, flow: &str, more: &Value) -> String {
    let mut body = more.clone();
    body["flow_id"] = api.post("/flows/", &json!({"name": flow}))["id"].clone();
    body["name"] = json!(format!("{pool}-{flow}"));
    body["work_pool_name"] = json!(pool);
    text(&api.post("/deployments/", &body), "id").to_owned()
}

/// Makes flow runs, one after another, at moments that are the same for each worker.
fn make_runs(api: Api, deployment: &str, count: usize) -> Vec<Value> {
    let mut chance = Chance(42);
    let path = format!("/deployments/{deployment}/create_flow_run");
    (0..count)
        .map(|_| {
            pass(GAP.mul_f64(chance.next()));
            api.post(&path, &json!({}))
        })
        .collect()
}

fn wait_for_end(api: Api, run: &Value) {
    let path = format!("/flow_runs/{}", text(run, "id"));
    wait::until("the flow run has ended", BOUND, || {
        let run = api.get(&path);
        if run["end_time"].is_string() {
            Ok(())
        } else {
            Err(run.to_string())
        }
    });
}

fn wait_for_poll(contender: &Contender, worker: &Running) {
    wait::until("the worker polls", BOUND, || {
        let counts = contender.proxy.take();
        if counts
            .keys()
            .any(|name| name.ends_with("get_scheduled_flow_runs"))
        {
            Ok(())
        } else {
            Err(worker.stderr())
        }
    });
}

/// The seconds from the moment a flow run was due to the moment it was claimed.
fn wait_of(api: Api, run: &Value) -> f64 {
    const DAY: f64 = 86_400.0;
    let path = format!("/flow_run_states/?flow_run_id={}", text(run, "id"));
    let claimed = wait::until("the flow run is claimed", BOUND, || {
        let states = api.get(&path);
        let states = states.as_array().map_or(&[][..], Vec::as_slice);
        let claim = states.iter().find(|state| text(state, "type") == "PENDING");
        claim
            .map(|state| text(state, "timestamp").to_owned())
            .ok_or("not claimed")
    });
    (second_of_day(&claimed) - second_of_day(text(run, "expected_start_time"))).rem_euclid(DAY)
}

/// The second of its day that a time in RFC 3339 and UTC is at.
fn second_of_day(time: &str) -> f64 {
    let clock = time.split('T').nth(1).unwrap_or_default();
    let parts = clock.trim_end_matches(['Z', 'z']).split(':');
    parts.fold(0.0, |sum, part| {
        sum * 60.0 + part.parse::<f64>().unwrap_or_default()
    })
}

fn print_row(name: &str, measured: &Measured) {
    let Measured {
        idle,
        commands,
        flows,
        waits,
    } = measured;
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a few dozen"
        )]
        let index = ((waits.len() - 1) as f64 * share).round() as usize;
        waits[index]
    };
    let per_minute = f64::from(idle.values().sum::<u32>()) * 60.0 / IDLE.as_secs_f64();
    say(&format!(
        "{name:<26}{:>8.2}{:>8.2}{:>8.2}{per_minute:>18.1}{:>14.1}{:>14.1}",
        at(0.5),
        at(0.9),
        at(1.0),
        per_run(commands, RUNS),
        per_run(flows, FLOW_RUNS),
    ));
}

/// How many requests each flow run took, beyond those that are made anyway.
fn per_run(counts: &Counts, runs: usize) -> f64 {
    let regular = |name: &str| REGULAR.iter().any(|part| name.contains(part));
    let extra = counts.iter().filter(|(name, _)| !regular(name));
    let extra: u32 = extra.map(|(_, count)| count).sum();
    f64::from(extra) / f64::from(u32::try_from(runs).unwrap_or(u32::MAX))
}

fn print_requests(name: &str, measured: &Measured) {
    say(&format!(
        "\n{name}: what was asked in {} idle minutes, for {RUNS} commands, for {FLOW_RUNS} Python flows",
        IDLE.as_secs() / 60
    ));
    let Measured {
        idle,
        commands,
        flows,
        waits: _,
    } = measured;
    let names: BTreeSet<&String> = [idle, commands, flows]
        .into_iter()
        .flat_map(BTreeMap::keys)
        .collect();
    for request in names {
        let [idle, commands, flows] =
            [idle, commands, flows].map(|counts| counts.get(request).copied().unwrap_or(0));
        say(&format!("{idle:>8}{commands:>8}{flows:>8}  {request}"));
    }
}

/// Numbers from 0 to 1 that look random and are the same for each worker (a linear congruential generator).
struct Chance(u32);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1_u32 << 24)
    }
}

/// Lets time pass: what is measured here is what happens in it.
fn pass(time: Duration) {
    let end = Instant::now() + time;
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(rest);
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
