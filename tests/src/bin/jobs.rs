//! Many Jobs at once on a control plane whose pods are played: what a worker takes meanwhile, and what it asks of the cluster.
//!
//! `cargo run --release -p worker-tests --bin jobs -- 2000`, with `WORKER_TEST_CONTROL_KUBECONFIG` as `tests/kubernetes/cluster control` says it. The
//! worker speaks TLS to the cluster as a service account; what it asked is counted by the cluster, in its audit log. It uses the embedded API.
//! With a second number as many finished Jobs of somebody else are there before. With the word `faults` at the end, something happens on the worker's way to the
//! cluster, a plain one then, each time before a seventh of the pods end: how soon their ends are seen is what is printed. It asserts nothing: what a machine can do is for people to judge.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use worker_tests::{
    gateway::{Fault, Gateway, Identity},
    http::Api,
    kubelet::{Kubelet, Step},
    measure::{load, say, status_field},
    prefect::free_address,
    program::{Program, Running},
    wait,
};

/// How many Jobs there are where nobody says otherwise.
const RUNS: usize = 2000;

/// How long any part of this may take.
const BOUND: Duration = Duration::from_mins(20);

/// How often somebody looks. A look costs the API something too.
const LOOK: Duration = Duration::from_secs(1);

/// For how long nothing happens, to see what that takes.
const STILL: Duration = Duration::from_mins(1);

/// The namespace of which the cluster's audit log tells.
const NAMESPACE: &str = "worker-tests";

const POOL: &str = "jobs";

/// What may happen on the way.
const FAULTS: [&str; 6] = [
    "connections are reset",
    "a watch is too old (410)",
    "watches fall silent",
    "too many requests (429)",
    "failures (500)",
    "the token is revoked",
];

fn main() {
    let with_faults = std::env::args().any(|word| word == "faults");
    let mut numbers = std::env::args().skip(1).map(|text| text.parse().ok());
    let runs = numbers.next().flatten().unwrap_or(RUNS);
    let others = numbers.next().flatten().unwrap_or(0);
    let kubeconfig = std::env::var("WORKER_TEST_CONTROL_KUBECONFIG");
    let kubeconfig = PathBuf::from(kubeconfig.expect("WORKER_TEST_CONTROL_KUBECONFIG names one"));
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("."));
    let own = own
        .with_file_name("worker-under-test")
        .display()
        .to_string();
    let way = Gateway::open(&kubeconfig, Identity::Administrator).expect("it leads to a cluster");
    let cluster = Api::at_root_of(way.address());
    let folder = kubeconfig.parent().expect("it is a file");
    say(&format!(
        "{runs} Jobs at once, {others} finished ones of others; load of the machine before: {}",
        load()
    ));
    prepare(&cluster);
    let token = make_token(&cluster, "first");
    make_finished(cluster, others);
    let kubelet = Kubelet::start(cluster, NAMESPACE, folder).expect("pods can be played");

    let home = Program::new(&own);
    let address = free_address().expect("loopback has a free port");
    let _server = home.start(&["server", "--port", &address.port().to_string()]);
    let api = Api::at(address);
    let answers = || {
        api.send("GET", "/health", None)
            .is_ok_and(|answer| answer.status == 200)
    };
    assert!(wait::holds(BOUND, answers), "the API does not answer");
    let audit = folder.join("logs/audit.log");
    let audited = fs::metadata(&audit).map_or(0, |file| file.len());

    let program = Program::new(&own).with("PREFECT_API_URL", api.url());
    let config = program.directory("cluster").join("kubeconfig");
    let way = Gateway::open(&kubeconfig, Identity::Bearer).expect("it has led there");
    let token_file = config.with_file_name("token");
    fs::write(&token_file, &token).expect("there is room");
    write_kubeconfig(
        &kubeconfig,
        &config,
        &token_file,
        with_faults.then_some(&way),
    );
    let program = program.with("KUBECONFIG", config.display().to_string());
    make_pool(&api);
    let worker = program.start(&["--pool", POOL]);
    wait_until("the worker has begun", &worker, || {
        worker.stderr().contains("started!")
    });
    print("idle", &worker, None);

    let mut left = runs;
    begin(&api, &worker, runs);
    if with_faults {
        for fault in FAULTS {
            let spoil = || spoil(fault, &way, &cluster, &token_file);
            left -= end_some(&api, &worker, &kubelet, (runs, left), fault, spoil);
        }
    }
    end_some(&api, &worker, &kubelet, (runs, left), "nothing", || {});
    print("all final", &worker, None);
    wait_until("all Jobs are gone", &worker, || jobs(&cluster) == others);
    print("all gone", &worker, None);
    drop(worker);
    tell_calls(&audit, audited, runs);
    say(&format!("load of the machine after: {}", load()));
}

/// Makes flow runs, lets them run, and says nothing for a while.
fn begin(api: &Api, worker: &Running, runs: usize) {
    let begun = Instant::now();
    make_runs(api, runs);
    say(&format!(
        "  the last flow run is there after {:.1} s",
        begun.elapsed().as_secs_f64()
    ));
    wait_until("all Jobs run", worker, || count(api, "RUNNING") == runs);
    print("all run", worker, Some(begun.elapsed()));
    let before = processor(worker);
    look_until(STILL, || false);
    let spent = processor(worker) - before;
    say(&format!(
        "  then {} s without any news take {:.2} s of processor",
        STILL.as_secs(),
        spent
    ));
}

/// Ends some pods after something has happened, all that are left if nothing has; how many, of those that there were and are left.
fn end_some(
    api: &Api,
    worker: &Running,
    kubelet: &Kubelet,
    (runs, left): (usize, usize),
    what: &str,
    happens: impl FnOnce(),
) -> usize {
    happens();
    let begun = Instant::now();
    let most = if what == "nothing" {
        left
    } else {
        runs / (FAULTS.len() + 1)
    };
    let ended = kubelet.play_some(most, &Step::Exit(0));
    let played = begun.elapsed();
    let seen = || count(api, "COMPLETED") == runs - left + ended;
    wait_until("these ends are seen", worker, seen);
    say(&format!(
        "  {what}: {ended} pods end within {:.1} s; {:.1} s after the last one all are final",
        played.as_secs_f64(),
        begun.elapsed().saturating_sub(played).as_secs_f64()
    ));
    ended
}

/// Lets something happen on the worker's way.
fn spoil(fault: &str, way: &Gateway, cluster: &Api, token_file: &Path) {
    match fault {
        "connections are reset" => drop(way.reset("")),
        "a watch is too old (410)" => {
            way.fail("watch ", Fault::Expired, 4);
            way.reset("watch ");
        }
        "watches fall silent" => drop(way.silence("watch ")),
        "too many requests (429)" => {
            way.fail("", Fault::Answer(429, Some(1)), 200);
            way.reset("watch ");
        }
        "failures (500)" => {
            way.fail("", Fault::Answer(500, None), 200);
            way.reset("watch ");
        }
        _ => {
            fs::write(token_file, make_token(cluster, "second")).expect("there is room");
            let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/first");
            cluster.delete(&path);
            way.reset("");
        }
    }
}

/// Makes namespace and service account.
fn prepare(cluster: &Api) {
    let named = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    // It may be there.
    cluster
        .send("POST", "/api/v1/namespaces", Some(&named))
        .ok();
    let base = format!("/api/v1/namespaces/{NAMESPACE}");
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "worker"}});
    cluster
        .send("POST", &format!("{base}/serviceaccounts"), Some(&account))
        .ok();
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "worker"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "worker", "namespace": NAMESPACE}],
    });
    let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings");
    cluster.send("POST", &path, Some(&binding)).ok();
    let ready = || {
        let path = format!("{base}/serviceaccounts/default");
        cluster
            .send("GET", &path, None)
            .is_ok_and(|answer| answer.body["secrets"].is_array())
    };
    assert!(wait::holds(BOUND, ready), "no pod can be made");
}

/// A token of the service account, for as long as the Secret of this name is there.
fn make_token(cluster: &Api, bound_to: &str) -> String {
    let base = format!("/api/v1/namespaces/{NAMESPACE}");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": bound_to}});
    // It may be there.
    cluster
        .send("POST", &format!("{base}/secrets"), Some(&secret))
        .ok();
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {
            "audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 7200,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": bound_to},
        },
    });
    let made = cluster.post(&format!("{base}/serviceaccounts/worker/token"), &request);
    made["status"]["token"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Makes Jobs that have ended and are nobody's here, with what others put on theirs.
fn make_finished(cluster: Api, count: usize) {
    let path = format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs");
    let make = |number: usize| {
        let name = format!("finished-{number}");
        let labels = json!({"prefect.io/flow-run-id": name, "prefect.io/work-pool-name": POOL});
        let mut job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": labels},
            "spec": {"parallelism": 0, "template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "main", "image": "played"}],
            }}},
        });
        cluster.send("POST", &path, Some(&job)).ok();
        job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        cluster
            .send("PUT", &format!("{path}/{name}/status"), Some(&job))
            .ok();
    };
    thread::scope(|scope| {
        for hand in 0..4 {
            scope.spawn(move || (hand..count).step_by(4).for_each(make));
        }
    });
}

/// The worker's way, straight or over a gateway, with a token in a file as pods have it.
fn write_kubeconfig(of: &Path, to: &Path, token_file: &Path, over: Option<&Gateway>) {
    let output = Command::new("kubectl")
        .args([
            "config",
            "view",
            "--raw",
            "--minify",
            "--output=json",
            "--kubeconfig",
        ])
        .arg(of)
        .output()
        .expect("the command line of Kubernetes is installed");
    let mut config: Value = serde_json::from_slice(&output.stdout).expect("it writes JSON");
    config["users"][0]["user"] = json!({ "tokenFile": token_file });
    if let Some(way) = over {
        config["clusters"][0]["cluster"] = json!({"server": format!("http://{}", way.address())});
    }
    config["contexts"][0]["context"]["namespace"] = json!(NAMESPACE);
    fs::write(to, config.to_string()).expect("there is room");
}

fn make_pool(api: &Api) {
    api.post("/work_pools/", &json!({"name": POOL, "type": "kubernetes"}));
}

fn make_runs(api: &Api, runs: usize) {
    let flow = api.post("/flows/", &json!({"name": "jobs"}));
    let variables = json!({"command": "play start", "image": "played", "namespace": NAMESPACE});
    let deployment = json!({
        "name": "jobs", "flow_id": flow["id"], "work_pool_name": POOL, "job_variables": variables,
    });
    let deployment = api.post("/deployments/", &deployment);
    let id = deployment["id"].as_str().unwrap_or_default();
    for _ in 0..runs {
        api.post(&format!("/deployments/{id}/create_flow_run"), &json!({}));
    }
}

/// How many flow runs are in a state.
fn count(api: &Api, state: &str) -> usize {
    let filter = json!({"flow_runs": {"state": {"type": {"any_": [state]}}}});
    let count = api.post("/flow_runs/count", &filter).as_u64();
    count.and_then(|count| count.try_into().ok()).unwrap_or(0)
}

/// How many Jobs there are.
fn jobs(cluster: &Api) -> usize {
    let path = format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs?limit=1");
    let list = cluster.get(&path);
    let here = list["items"].as_array().map_or(0, Vec::len);
    let more = list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
    here + usize::try_from(more).unwrap_or(0)
}

/// Says what was asked of the cluster since its audit log was so long.
fn tell_calls(audit: &Path, from: u64, runs: usize) {
    let text = fs::read(audit).unwrap_or_default();
    let text = text
        .get(usize::try_from(from).unwrap_or(0)..)
        .unwrap_or_default();
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    let mut open: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Ok(event) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        let object = &event["objectRef"];
        let below = object["subresource"]
            .as_str()
            .map_or(String::new(), |below| format!("/{below}"));
        let verb = event["verb"].as_str().unwrap_or_default();
        let resource = object["resource"].as_str();
        let resource = resource
            .or(event["requestURI"].as_str())
            .unwrap_or_default();
        let kind = format!("{verb} {resource}{below}");
        match event["stage"].as_str() {
            Some("ResponseStarted") if verb == "watch" => {
                let (now, most) = open.entry(kind).or_default();
                *now += 1;
                *most = (*most).max(*now);
            }
            Some("ResponseComplete") => {
                if verb == "watch" {
                    let (now, _) = open.entry(kind.clone()).or_default();
                    *now = now.saturating_sub(1);
                }
                *calls.entry(kind).or_default() += 1;
            }
            _ => {}
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "it is for people")]
    let each = |count: usize| count as f64 / runs.max(1) as f64;
    say("calls of the cluster's API, as it counts them: all, for each run");
    for (kind, count) in &calls {
        say(&format!("  {kind:<28} {count:>7} {:>7.2}", each(*count)));
    }
    let all = calls.values().sum();
    say(&format!("  {:<28} {all:>7} {:>7.2}", "all", each(all)));
    for (kind, (_, most)) in open {
        say(&format!("  at most {most} open at once: {kind}"));
    }
}

fn wait_until(what: &str, worker: &Running, is_so: impl FnMut() -> bool) {
    assert!(
        look_until(BOUND, is_so),
        "not within {BOUND:?}: {what}; {}",
        worker.stderr()
    );
}

/// Looks now and then.
fn look_until(bound: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > bound {
            return false;
        }
        thread::park_timeout(LOOK);
    }
    true
}

fn print(when: &str, worker: &Running, after: Option<Duration>) {
    let field = |name: &str| status_field(worker.pid(), name);
    let after = after.map_or_else(String::new, |after| format!("{:.1} s", after.as_secs_f64()));
    say(&format!(
        "{when:<10} {after:>9}   RSS {:>4} MiB, at most {:>4} MiB   {} threads   processor so far {:.1} s",
        field("VmRSS:") / 1024,
        field("VmHWM:") / 1024,
        field("Threads:"),
        processor(worker),
    ));
}

/// What a process has had of the processor, in seconds.
fn processor(worker: &Running) -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", worker.pid())).unwrap_or_default();
    // The name may have anything in it.
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
    f64::from(ticks) / 100.0
}
