//! Many containers at once: how soon they are all there, how soon their ends are told, and what a worker takes meanwhile; ours beside the Python worker.
//!
//! `cargo run -p worker-tests --bin containers -- 200`, with `WORKER_TEST_DOCKER_HOST` as `tests/docker/engine start` says it, and a Python with
//! prefect-docker. Both use the embedded API, so that what is measured is the worker and the engine. It asserts nothing: what a machine can do is for people to judge.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use worker_tests::{
    http::Api,
    measure::{load, say, status_field},
    prefect::{Python, free_address},
    program::{Program, Running},
    wait,
};

/// How many containers there are where nobody says otherwise.
const RUNS: usize = 200;

/// How long any part of this may take.
const BOUND: Duration = Duration::from_mins(10);

/// How often somebody looks. A look costs the engine something too.
const LOOK: Duration = Duration::from_millis(500);

/// What was measured of one worker.
struct Measured {
    name: &'static str,
    /// From the start of its process to the last container that runs.
    started: Duration,
    /// From the moment all jobs may end to the last final state; none: not within the bound.
    ended: Option<Duration>,
    /// While all containers run.
    resident: u64,
    threads: u64,
    open: BTreeMap<&'static str, usize>,
    /// Over all.
    peak: u64,
}

/// A way to the engine that knows what is asked on it.
struct Way {
    folder: TempDir,
    open: Arc<Mutex<BTreeMap<usize, &'static str>>>,
}

fn main() {
    let runs = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let runs = runs.unwrap_or(RUNS);
    let python = Python::installed();
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("."));
    let ours = own
        .with_file_name("worker-under-test")
        .display()
        .to_string();
    let prefect = python.bin().join("prefect").display().to_string();
    say(&format!(
        "{runs} containers at once; load of the machine before: {}",
        load()
    ));
    let contenders: [(&str, &str, &[&str]); 2] = [
        ("worker", &ours, &[]),
        ("Python worker", &prefect, &["worker", "start"]),
    ];
    let rows = contenders.map(|(name, path, arguments)| {
        let program = Program::new(path).with("PATH", python.path());
        measure(name, &ours, program, arguments, runs)
    });
    say(
        "\n                 all run   all final   RSS then   peak RSS   threads   open requests to the engine",
    );
    for row in &rows {
        print(row);
    }
    say(&format!("load of the machine after: {}", load()));
}

fn measure(
    name: &'static str,
    server: &str,
    program: Program,
    arguments: &[&str],
    runs: usize,
) -> Measured {
    let home = Program::new(server);
    let address = free_address().expect("loopback has a free port");
    let _server = home.start(&["server", "--port", &address.port().to_string()]);
    let api = Api::at(address);
    wait::until("the API answers", BOUND, || {
        match api.send("GET", "/health", None) {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.status.to_string()),
            Err(error) => Err(error.to_string()),
        }
    });
    let gate = tempfile::tempdir().expect("there is room");
    let fifo = gate.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("the name is free");
    let pool = format!("containers-{}", address.port());
    prepare(&api, &pool, gate.path(), runs);
    let way = Way::open();
    let program = program
        .with("PREFECT_API_URL", api.url())
        .with("DOCKER_HOST", way.host());
    let mut all = arguments.to_vec();
    all.extend(["--pool", &pool, "--type", "docker"]);
    let begun = Instant::now();
    let worker = program.start(&all);
    wait_until("all containers run", &worker, || running(&pool) == runs);
    let started = begun.elapsed();
    let pid = worker.pid();
    let (resident, threads) = (status_field(pid, "VmRSS:"), status_field(pid, "Threads:"));
    let open = way.open_requests();
    let opened = Instant::now();
    // Whoever waits to read is let in by one who writes, and reads that there is nothing.
    drop(fs::OpenOptions::new().write(true).open(&fifo));
    let all_final = || {
        let filter = json!({"flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}}});
        api.post("/flow_runs/count", &filter) == json!(runs)
    };
    let ended = look_until(all_final).then(|| opened.elapsed());
    let peak = status_field(pid, "VmHWM:");
    drop(worker);
    remove_all(&pool);
    Measured {
        name,
        started,
        ended,
        resident,
        threads,
        open,
        peak,
    }
}

fn prepare(api: &Api, pool: &str, gate: &Path, runs: usize) {
    api.post("/work_pools/", &json!({"name": pool, "type": "docker"}));
    let flow = api.post("/flows/", &json!({"name": "containers"}));
    let variables = json!({
        "command": "sh -c 'read line < /gate/fifo; exit 3'",
        "image": "worker-test/busybox:1",
        "image_pull_policy": "Never",
        "network_mode": "none",
        "volumes": [format!("{}:/gate", gate.display())],
    });
    let deployment = api.post(
        "/deployments/",
        &json!({"name": "containers", "flow_id": flow["id"], "work_pool_name": pool, "job_variables": variables}),
    );
    let id = deployment["id"].as_str().unwrap_or_default();
    for _ in 0..runs {
        api.post(&format!("/deployments/{id}/create_flow_run"), &json!({}));
    }
}

/// How many containers of a pool run.
fn running(pool: &str) -> usize {
    let filter = format!("label=io.prefect.work-pool-name={pool}");
    docker(&["ps", "--quiet", "--filter", &filter])
        .lines()
        .count()
}

fn remove_all(pool: &str) {
    let filter = format!("label=io.prefect.work-pool-name={pool}");
    let left = docker(&["ps", "--all", "--quiet", "--filter", &filter]);
    let left: Vec<&str> = left.lines().collect();
    if !left.is_empty() {
        docker(&[&["rm", "--force"], left.as_slice()].concat());
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker")
        .env("DOCKER_HOST", host())
        .args(arguments)
        .output()
        .expect("the Docker command line is installed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn host() -> String {
    std::env::var("WORKER_TEST_DOCKER_HOST")
        .expect("WORKER_TEST_DOCKER_HOST says where the engine is")
}

fn wait_until(what: &str, worker: &Running, mut is_so: impl FnMut() -> bool) {
    assert!(
        look_until(&mut is_so),
        "not within {BOUND:?}: {what}; {}",
        worker.stderr()
    );
}

/// Looks now and then.
fn look_until(mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > BOUND {
            return false;
        }
        thread::park_timeout(LOOK);
    }
    true
}

// === impl Way ===

impl Way {
    fn open() -> Self {
        let way = Self {
            folder: tempfile::tempdir().expect("there is room"),
            open: Arc::default(),
        };
        let listener = UnixListener::bind(way.socket()).expect("the socket is free");
        let host = host();
        let engine = PathBuf::from(host.strip_prefix("unix://").unwrap_or(&host));
        let open = Arc::clone(&way.open);
        thread::spawn(move || {
            for (number, client) in listener.incoming().flatten().enumerate() {
                if let Ok(server) = UnixStream::connect(&engine) {
                    carry(number, (client, server), &open);
                }
            }
        });
        way
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What connections are open, by what was last asked on each.
    fn open_requests(&self) -> BTreeMap<&'static str, usize> {
        let mut counted = BTreeMap::new();
        for kind in self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            *counted.entry(*kind).or_default() += 1;
        }
        counted
    }
}

fn carry(
    number: usize,
    (mut client, mut server): (UnixStream, UnixStream),
    open: &Arc<Mutex<BTreeMap<usize, &'static str>>>,
) {
    let (Ok(mut answered), Ok(mut answers)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    thread::spawn(move || {
        std::io::copy(&mut answers, &mut answered).ok();
        answered.shutdown(Shutdown::Both).ok();
    });
    let open = Arc::clone(open);
    thread::spawn(move || {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = client.read(&mut piece) {
            if let Some(kind) = kind_of(&piece[..length]) {
                open.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(number, kind);
            }
            if server.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        open.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&number);
        server.shutdown(Shutdown::Both).ok();
    });
}

/// What is asked, if a request begins here.
fn kind_of(piece: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(&piece[..piece.len().min(512)]);
    let path = text.lines().next()?.strip_suffix(" HTTP/1.1")?;
    let path = path.split('?').next()?;
    Some(match path.rsplit('/').next()? {
        "events" => "events",
        "logs" => "logs",
        "wait" => "wait",
        _ => "idle or short",
    })
}

fn print(row: &Measured) {
    let mib = |kib: u64| format!("{} MiB", kib / 1024);
    let open: Vec<String> = row
        .open
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let ended = row.ended.map_or_else(
        || "never".to_owned(),
        |ended| format!("{:.1} s", ended.as_secs_f64()),
    );
    say(&format!(
        "{:<15} {:>6.1} s {ended:>11} {:>10} {:>10} {:>9}   {}",
        row.name,
        row.started.as_secs_f64(),
        mib(row.resident),
        mib(row.peak),
        row.threads,
        open.join(", ")
    ));
}
