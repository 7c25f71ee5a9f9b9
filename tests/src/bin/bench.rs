//! The numbers of this project, printed: how fast flow runs go through, how much an idle worker takes, how soon it polls.
//!
//! Run by `just bench`. It asserts nothing: what a machine can do is for people to judge.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use worker_tests::{
    http::Api,
    measure::{say, status_field},
    prefect::free_address,
    program::Program,
    wait,
};

/// How many flow runs go through.
const RUNS: u32 = 1_000;

/// How long any part of this may take.
const BOUND: Duration = Duration::from_mins(3);

/// How often each start is measured.
const STARTS: usize = 7;

fn main() {
    let program = sibling("worker-under-test");
    say("worker bench: the middle of several runs where there are several\n");
    throughput(&program);
    starts(&program);
    idle(&program);
}

/// `RUNS` due runs of `true` on the embedded API, in the worker's own process.
fn throughput(program: &str) {
    let home = Program::new(program);
    let address = free_address().expect("loopback has a free port");
    let port = address.port().to_string();
    let api = Api::at(address);
    {
        let _server = home.start(&["server", "--port", &port]);
        answers(&api);
        prepare(&api);
    }
    // The server above has been ended; the worker takes its database over.
    let begun = Instant::now();
    let worker = home
        .with("WORKER_SERVER_PORT", port)
        .with("WORKER_START_CONCURRENCY", "16");
    let running = worker.start(&[
        "--pool",
        "bench",
        "--type",
        "process",
        "--log-level",
        "warn",
    ]);
    wait::until("all runs are completed", BOUND, || {
        let count = api.send("POST", "/flow_runs/count", Some(&completed()));
        match count {
            Ok(answer) if answer.body == json!(RUNS) => Ok(()),
            Ok(answer) => Err(format!(
                "{} {}; {}",
                answer.status,
                answer.body,
                running.stderr()
            )),
            Err(error) => Err(error.to_string()),
        }
    });
    let all = begun.elapsed().as_secs_f64();
    let peak = status_field(running.pid(), "VmHWM:");
    say(&format!(
        "{RUNS} runs of `true` on the embedded API: {:.0} a second (from the start of the process to the last final state, {all:.2} s; peak RSS {} MiB)",
        f64::from(RUNS) / all,
        peak / 1024,
    ));
}

fn prepare(api: &Api) {
    api.post("/work_pools/", &json!({"name": "bench", "type": "process"}));
    let flow = api.post("/flows/", &json!({"name": "bench"}));
    let deployment = api.post(
        "/deployments/",
        &json!({"name": "bench", "flow_id": flow["id"], "work_pool_name": "bench", "job_variables": {"command": "true"}}),
    );
    let path = format!(
        "/deployments/{}/create_flow_run",
        deployment["id"].as_str().unwrap_or_default()
    );
    for _ in 0..RUNS {
        api.post(&path, &json!({}));
    }
}

fn completed() -> Value {
    json!({"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}})
}

/// From the start of the process to the first poll that was answered.
fn starts(program: &str) {
    let server = Program::new(program);
    let address = free_address().expect("loopback has a free port");
    let _server = server.start(&["server", "--port", &address.port().to_string()]);
    let api = Api::at(address);
    answers(&api);
    api.post(
        "/work_pools/",
        &json!({"name": "starts", "type": "process"}),
    );
    let mut taken: Vec<Duration> = (0..STARTS).map(|_| start(program, address)).collect();
    taken.sort();
    say(&format!(
        "start of the process to the first answered poll: {} ms",
        taken[STARTS / 2].as_millis()
    ));
}

fn start(program: &str, api: SocketAddr) -> Duration {
    let status = free_address().expect("loopback has a free port");
    let home = Program::new(program).with("PREFECT_API_URL", format!("http://{api}/api"));
    let begun = Instant::now();
    let port = status.port().to_string();
    let _running = home.start(&[
        "--pool",
        "starts",
        "--with-healthcheck",
        "--status-port",
        &port,
    ]);
    let mut pause = Duration::from_millis(1);
    // The probe turns good with the first answered poll. It is asked often, so the answer is late by a millisecond or two.
    while !ready(status) && begun.elapsed() < BOUND {
        std::thread::park_timeout(pause);
        pause = Duration::from_millis(1);
    }
    begun.elapsed()
}

fn ready(status: SocketAddr) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(status) else {
        return false;
    };
    let mut answer = String::new();
    stream
        .write_all(b"GET /readyz HTTP/1.0\r\n\r\n")
        .and_then(|()| std::io::Read::read_to_string(&mut stream, &mut answer))
        .is_ok_and(|_| answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"))
}

/// Resident memory of a worker that has nothing to do.
fn idle(program: &str) {
    let server = Program::new(program);
    let address = free_address().expect("loopback has a free port");
    let _server = server.start(&["server", "--port", &address.port().to_string()]);
    answers(&Api::at(address));
    let alone = Program::new(program).with("PREFECT_API_URL", format!("http://{address}/api"));
    let embedded = Program::new(program);
    for (what, home) in [("without", alone), ("with", embedded)] {
        let running = home.start(&["--pool", "idle", "--type", "process"]);
        wait::until("the worker has started", BOUND, || {
            if running.stderr().contains("started!") {
                Ok(())
            } else {
                Err(running.stderr())
            }
        });
        std::thread::park_timeout(Duration::from_secs(5));
        let resident = status_field(running.pid(), "VmRSS:");
        say(&format!(
            "idle, {what} the embedded API: RSS {}.{} MiB",
            resident / 1024,
            resident % 1024 * 10 / 1024
        ));
    }
}

fn answers(api: &Api) {
    wait::until("the API answers", BOUND, || {
        match api.send("GET", "/health", None) {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.status.to_string()),
            Err(error) => Err(error.to_string()),
        }
    });
}

fn sibling(name: &str) -> String {
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("."));
    own.with_file_name(name).display().to_string()
}
