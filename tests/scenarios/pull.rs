//! How code gets to a job, as an operator and a deployment decide it: who pulls, where to, for how long, and with how much room.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use worker_tests::{program::Running, repository::Repository, wait};

use crate::{
    scene::{BOUND, Scene, script, wait_for_status, wait_to_hear},
    stage::POOL,
};

/// A repository with a script that says where it runs.
fn code(scene: &Scene) -> String {
    let repository = Repository::create(&scene.directory("code"));
    repository.write("where.sh", "#!/bin/sh\npwd\nstat -c 'mode %a' ..\n");
    repository.commit("first");
    repository.directory().display().to_string()
}

/// A plain command that is in a repository.
fn deployment(repository: &str, variables: &Value) -> Value {
    let mut all = json!({"command": "./where.sh"});
    let both = all.as_object_mut().expect("an object");
    both.extend(variables.as_object().expect("an object").clone());
    json!({
        "pull_steps": [{"prefect.deployments.steps.git_clone": {"repository": repository}}],
        "job_variables": all,
    })
}

fn run_to(scene: &Scene, worker: &Running, fields: &Value, state: &str) -> (String, String) {
    let name = format!("pulled-{}", scene.requests().total());
    let run = scene.run(&scene.deploy(&name, fields));
    scene.wait_for(&run, state, worker);
    (scene.message(&run), wait_for_log(scene, &run))
}

/// The log, once its last lines have come.
fn wait_for_log(scene: &Scene, run: &str) -> String {
    wait::until("the flow run has a log", BOUND, || {
        let log = scene.log(run);
        if log.contains("pull") {
            Ok(log)
        } else {
            Err(log)
        }
    })
}

#[test]
fn deployment_pool_and_worker_say_who_pulls_and_the_log_says_which_and_why() {
    let scene = Scene::set();
    let repository = code(&scene);
    let program = scene.worker().with("WORKER_PULL_MODE", "job");
    let worker = program.start(&["--pool", POOL]);
    // The worker's own setting: a plain command has nobody else.
    let (message, _) = run_to(
        &scene,
        &worker,
        &deployment(&repository, &json!({})),
        "Crashed",
    );
    assert!(
        message.ends_with("in a plain command nobody else does: pull.mode of this worker is 'job'"),
        "{message}"
    );
    // The pool's template wins over the worker.
    let pool = format!("/work_pools/{POOL}");
    let mut template = scene.api().get(&pool)["base_job_template"].clone();
    template["variables"]["properties"]["pull_mode"] = json!({"type": "string", "default": "auto"});
    scene
        .api()
        .patch(&pool, &json!({"base_job_template": template}));
    let (_, log) = run_to(
        &scene,
        &worker,
        &deployment(&repository, &json!({})),
        "Completed",
    );
    assert!(
        log.contains("This worker gets the code for the job: the job variable 'pull_mode' is 'auto', and it knows every step."),
        "{log}"
    );
    // The deployment wins over the pool.
    let job = deployment(&repository, &json!({"pull_mode": "job"}));
    let (message, _) = run_to(&scene, &worker, &job, "Crashed");
    assert!(
        message.contains("the job variable 'pull_mode' is 'job'"),
        "{message}"
    );
    let wrong = deployment(&repository, &json!({"pull_mode": "sometimes"}));
    let (message, _) = run_to(&scene, &worker, &wrong, "Crashed");
    assert!(
        message.contains("the job variable 'pull_mode' must be worker, job or auto"),
        "{message}"
    );
}

#[test]
fn a_worker_that_must_pull_and_cannot_says_so_instead_of_leaving_it_to_the_job() {
    let scene = Scene::set();
    let worker = scene.worker();
    let worker = worker.start(&["--pool", POOL, "--pull-mode", "worker"]);
    let fields = json!({
        "entrypoint": "flow.py:main",
        "pull_steps": [{"my_package.steps.fetch": {}}],
    });
    let (message, log) = run_to(&scene, &worker, &fields, "Crashed");
    let why = "pull.mode of this worker is 'worker', and this worker cannot get the code: this worker does not know the step my_package.steps.fetch";
    assert!(message.ends_with(why), "{message}");
    assert!(log.contains(why), "{log}");
}

#[test]
fn workspaces_are_where_the_operator_wants_them_and_gone_when_their_run_is_over() {
    let scene = Scene::set();
    let repository = code(&scene);
    let root = scene.directory("elsewhere").join("root");
    let own = root.join(POOL).join("w").join("workspaces");
    let beside = root.join(POOL).join("other").join("workspaces/mine");
    let left = own.join("left-behind");
    for directory in [&beside, &left] {
        fs::create_dir_all(directory).expect("the directory is writable");
    }
    let program = scene.worker();
    let root = root.display().to_string();
    let worker = program.start(&["--pool", POOL, "--name", "w", "--workspaces", &root]);
    let (_, log) = run_to(
        &scene,
        &worker,
        &deployment(&repository, &json!({})),
        "Completed",
    );
    assert!(log.contains(&format!("{}/", own.display())), "{log}");
    assert!(log.contains("mode 700"), "{log}");
    wait::until(
        "nothing is left in the worker's own directory",
        BOUND,
        || {
            let names: Vec<_> = fs::read_dir(&own).expect("a directory").flatten().collect();
            if names.is_empty() {
                Ok(())
            } else {
                Err(format!("{names:?}"))
            }
        },
    );
    assert!(
        beside.exists(),
        "another worker's workspaces are not touched"
    );
}

#[test]
fn pull_steps_that_take_too_long_are_ended_with_all_they_started() {
    let scene = Scene::set();
    let mark = format!("{}.271828", std::process::id());
    let lines = format!("sleep {mark} &\nsleep {mark}\n");
    let slow = script(&scene.directory("jobs"), "slow.sh", &lines);
    let program = scene.worker().with("WORKER_PULL_TIMEOUT", "2s");
    let worker = program.start(&["--pool", POOL]);
    let fields = json!({
        "pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": slow}}],
        "job_variables": {"command": "true"},
    });
    let (message, _) = run_to(&scene, &worker, &fields, "Crashed");
    assert!(
        message.ends_with(
            "the pull steps did not end within 2 s; pull.timeout says how long they may take"
        ),
        "{message}"
    );
    wait::until("nothing of the step is left", BOUND, || {
        let left = processes_with(&mark);
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join("; "))
        }
    });
}

#[test]
fn with_too_little_room_on_the_disk_nothing_is_claimed_and_everybody_is_told() {
    let scene = Scene::set();
    let run = scene.run(&scene.deploy_command("true"));
    // With requests instead of sockets, so that they can be counted.
    let program = scene.worker().with("WORKER_API_WEBSOCKETS", "false");
    let worker = program.start(&[
        "--pool",
        POOL,
        "--disk-floor",
        "1000000TB",
        "--with-healthcheck",
        "--status-port",
        "0",
    ]);
    wait_to_hear(
        &worker,
        "claiming nothing: less than 1000000000000 MB is free on the disk of",
    );
    let status = wait_for_status(&worker);
    let told = wait::until("the pool was reached", BOUND, || {
        let told = status.get("/status")["claims_nothing_because"].to_string();
        if told.contains("on the disk of") {
            Ok(told)
        } else {
            Err(told)
        }
    });
    assert!(
        told.contains("less than 1000000000000 MB is free"),
        "{told}"
    );
    let ready = status.send("GET", "/readyz", None).expect("an answer");
    assert_eq!(ready.status, 503, "{}", ready.body);
    let metrics = status
        .send("GET", "/metrics", None)
        .expect("an answer")
        .body;
    for directory in ["state", "workspaces"] {
        let wanted = format!("directory=\"{directory}\"");
        let line = metrics
            .as_str()
            .unwrap_or_default()
            .lines()
            .find(|line| line.starts_with("worker_disk_free_bytes") && line.contains(&wanted));
        assert!(line.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    }
    wait_for_a_while(&scene, &worker);
    let state = scene.state(&run);
    assert!(
        ["Scheduled", "Late"].contains(&state.as_str()),
        "{state}: {}",
        worker.stderr()
    );
    drop(worker);
    let other = scene.worker();
    let other = other.start(&["--pool", POOL, "--disk-floor", "0.001%"]);
    scene.wait_for(&run, "Completed", &other);
}

#[test]
fn a_token_of_the_github_app_goes_to_the_repository_and_nowhere_else() {
    let scene = Scene::without_pool();
    let cloud = StandIn::start();
    let directory = scene.directory("steps");
    let (address, file) = (cloud.address, directory.join("steps.json"));
    let steps = json!([
        {"prefect.deployments.steps.run_shell_script": {
            "id": "get-github-token",
            "script": "uv tool run prefect-cloud github token owner/repo",
        }},
        {"prefect.deployments.steps.git_clone": {
            "repository": format!("http://x-access-token:{{{{ get-github-token.stdout }}}}@{address}/owner/repo.git"),
        }},
    ]);
    fs::write(&file, steps.to_string()).expect("the directory is writable");
    let into = directory.join("into");
    let program = scene
        .worker()
        .with("PREFECT_CLOUD_API_URL", format!("http://{address}/api"))
        .with(
            "PREFECT_API_URL",
            format!("http://{address}/api/accounts/a/workspaces/w"),
        )
        .with("PREFECT_API_KEY", "pnu_key");
    let (file, into) = (file.display().to_string(), into.display().to_string());
    let pulled = program.run(&[
        "pull",
        "--log-level",
        "trace",
        "--steps",
        &file,
        "--into",
        &into,
    ]);
    assert_eq!(pulled.code(), 1, "{pulled}");
    let said = format!("{}{}", pulled.stdout, pulled.stderr);
    assert!(said.contains("refuses the credentials"), "{said}");
    assert!(
        !said.contains("ghs_canary") && !said.contains("pnu_key"),
        "{said}"
    );
    let asked = cloud.asked();
    let tokens = asked
        .iter()
        .filter(|one| one.starts_with("POST /api/accounts/a/integrations/github/token "));
    let tokens: Vec<_> = tokens.collect();
    assert_eq!(tokens.len(), 1, "{asked:?}");
    assert!(
        tokens[0]
            .to_lowercase()
            .contains("authorization: bearer pnu_key"),
        "{asked:?}"
    );
    // `x-access-token:ghs_canary` as base64.
    let shown = asked
        .iter()
        .filter(|one| one.contains("eC1hY2Nlc3MtdG9rZW46Z2hzX2NhbmFyeQ=="));
    assert!(shown.count() > 0, "{asked:?}");
}

/// What stands in for Prefect Cloud, which makes tokens, and for GitHub, which lets nobody in.
pub(crate) struct StandIn {
    pub(crate) address: std::net::SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

// === impl StandIn ===

impl StandIn {
    /// Answers for as long as the test's process lives.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let request = answer(stream).unwrap_or_default();
                heard.lock().expect("whole").push(request);
            }
        });
        Self { address, asked }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("whole").clone()
    }
}

// === functions ===

/// Reads one request and answers it; its head.
fn answer(mut stream: TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        head += &line;
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, body) =
        if head.starts_with("POST ") && head.contains("/integrations/github/token ") {
            ("200 OK", r#"{"token": "ghs_canary"}"#)
        } else if head.contains(".git/") {
            ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=git", "")
        } else {
            ("404 Not Found", "{}")
        };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    Ok(head)
}

/// Waits until the worker has had the time to take what it wants: two heartbeats.
fn wait_for_a_while(scene: &Scene, worker: &Running) {
    let begun = scene.requests().total();
    wait::until("the worker has gone on", BOUND, || {
        let now = scene.requests().total();
        if now > begun + 2 {
            Ok(())
        } else {
            Err(worker.stderr())
        }
    });
}

/// The command lines of processes that have this in them.
fn processes_with(mark: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("procfs").flatten();
    all.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.contains(mark))
        .collect()
}
