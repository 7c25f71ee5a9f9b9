//! Secrets stay with those they are for: a canary in each place where one can be given to the worker, and a look into
//! every place where one could come out.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use http::Method;
use serde_json::{Value, json};
use worker_server::Fault;
use worker_tests::wait;

use crate::{
    pull::StandIn,
    scene::{BOUND, Scene, lines_of, script},
    stage::POOL,
};

/// What no place outside of a job may hold. Each test has one of its own, since it looks at the whole machine.
#[derive(Debug)]
struct Canary(String);

#[test]
fn a_block_in_a_place_that_is_told_when_it_is_wrong_is_covered() {
    let scene = Scene::set();
    let secret = Canary::new("misplaced").0;
    scene.create_secret_block("vault", &format!("/{secret}"));
    let block = "{{ prefect.blocks.secret.vault }}";
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL, "--log-level", "trace"]);
    for (name, variables) in [
        (
            "directory",
            json!({"command": "true", "working_dir": block}),
        ),
        ("program", json!({"command": block})),
        (
            "variable",
            json!({"command": "true", "env": {"A": "1", "working_dir": format!("{block}\u{0}")}}),
        ),
    ] {
        let run = scene.run(&scene.deploy(name, &json!({"job_variables": variables})));
        scene.wait_for(&run, "Crashed", &worker);
        let told = format!("{}{}", scene.message(&run), scene.log(&run));
        assert!(!told.contains(&secret), "{name}: {told}");
    }
    assert!(!worker.stderr().contains(&secret), "{}", worker.stderr());
}

#[test]
fn secrets_reach_the_job_and_nothing_else() {
    let canary = Canary::new("job");
    let scene = Scene::set();
    let directory = scene.directory("jobs");
    let (found, gate) = (directory.join("found"), directory.join("gate"));
    // Counts what it has without showing it, says who it is, and fails, so that there is more to be told of it.
    let lines = format!(
        "env | grep -c {canary} >{found}\necho $$ >>{found}\nfor _ in $(seq 400); do [ -e {gate} ] && exit 3; sleep 0.1; done\n",
        canary = canary.0,
        found = found.display(),
        gate = gate.display()
    );
    scene.create_secret_block("vault", &canary.named("block"));
    let run = scene.run(&scene.deploy(
        "careful",
        &json!({"job_variables": {
            "command": script(&directory, "job.sh", &lines),
            "env": {"BLOCK": "{{ prefect.blocks.secret.vault }}", "VARIABLE": canary.named("variable")},
        }}),
    ));
    let program = scene
        .worker()
        .with("PREFECT_API_KEY", canary.named("key"))
        .with("PREFECT_API_AUTH_STRING", canary.named("user:password"))
        .with(
            "PREFECT_CLIENT_CUSTOM_HEADERS",
            json!({"X-Token": canary.named("header")}).to_string(),
        );
    let worker = program.start(&["--pool", POOL, "--log-level", "trace"]);
    let job = wait::until("the job has looked", BOUND, || {
        lines_of(&found)
            .get(1)
            .cloned()
            .ok_or_else(|| worker.stderr())
    });
    // Prefect's settings go to jobs as the reference passes them on; the other two are the job's own.
    assert_eq!(lines_of(&found)[0], "5");
    assert_eq!(canary.processes_with("cmdline"), Vec::<String>::new());
    let mut allowed = vec![worker.pid().to_string(), parent(&job), job.clone()];
    let others: Vec<String> = canary
        .processes_with("environ")
        .into_iter()
        // The worker, the shim that starts the job, the job and what that starts.
        .filter(|pid| !allowed.contains(pid) && parent(pid) != job)
        .collect();
    allowed.sort();
    assert_eq!(others, Vec::<String>::new(), "but for {allowed:?}");
    canary.must_not_be_below(program.state_dir());
    fs::write(&gate, "").expect("the directory is writable");
    scene.wait_for(&run, "Crashed", &worker);
    wait::until("its log is sent", BOUND, || {
        let log = scene.log(&run);
        if log.contains("status code: 3") {
            Ok(())
        } else {
            Err(log)
        }
    });
    let states: Vec<String> = scene.history(&run).iter().map(Value::to_string).collect();
    canary.must_not_be_in(&states.join("\n"));
    canary.must_not_be_in(&scene.log(&run));
    canary.must_not_be_in(&worker.stderr());
    canary.must_not_be_in(&worker.stdout());
    canary.must_not_be_below(program.state_dir());
}

#[test]
fn what_is_wrong_with_a_job_is_told_without_the_secrets_in_it() {
    let canary = Canary::new("reason");
    let scene = Scene::set();
    scene.forget_types();
    scene.create_secret_block("vault", &canary.named("block"));
    let given = canary.named("variable");
    let wrong = [
        json!({"command": "true", "labels": {"a": [given]}}),
        json!({"command": "true", "labels": {"a": "{{ prefect.blocks.secret.vault.nope }}"}}),
        json!({"command": "true", "env": given}),
        json!({"command": "true", "env": {"A=B": given}}),
        json!({"command": "true", "env": {"A": format!("{given}\0")}}),
        json!({"command": "true", "stream_output": given}),
        json!({"command": "true", "working_dir": {"secret": given}}),
        json!({"command": "true 'open", "env": {"A": "{{ prefect.blocks.secret.vault }}"}}),
    ];
    let runs: Vec<String> = wrong
        .iter()
        .enumerate()
        .map(|(number, variables)| {
            let fields = json!({"job_variables": variables});
            scene.run(&scene.deploy(&format!("wrong-{number}"), &fields))
        })
        .collect();
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL, "--log-level", "trace"]);
    for run in &runs {
        scene.wait_for(run, "Crashed", &worker);
        canary.must_not_be_in(&scene.message(run));
        canary.must_not_be_in(&scene.log(run));
    }
    canary.must_not_be_in(&worker.stderr());
    canary.must_not_be_below(program.state_dir());
}

#[test]
fn credentials_of_pull_steps_are_shown_to_their_servers_and_to_nobody_else() {
    let canary = Canary::new("pull");
    let scene = Scene::set();
    scene.create_secret_block("vault", &canary.named("block"));
    let servers = StandIn::start();
    let steps = steps_with(&canary.named("given"), servers.address);
    let runs: Vec<String> = steps
        .iter()
        .enumerate()
        .map(|(number, step)| {
            let fields = json!({"pull_steps": [step], "job_variables": {"command": "true"}});
            scene.run(&scene.deploy(&format!("pull-{number}"), &fields))
        })
        .collect();
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL, "--log-level", "trace"]);
    let mut on_command_lines = Vec::new();
    for run in &runs {
        wait::until("the flow run has crashed", BOUND, || {
            on_command_lines.extend(canary.processes_with("cmdline"));
            match scene.state(run).as_str() {
                "Crashed" => Ok(()),
                state => Err(format!("{state}: {}", worker.stderr())),
            }
        });
        let message = scene.message(run);
        assert!(message.contains("pull step"), "{message}");
        canary.must_not_be_in(&message);
        let states: Vec<String> = scene.history(run).iter().map(Value::to_string).collect();
        canary.must_not_be_in(&states.join("\n"));
        let log = wait::until("its log is sent", BOUND, || {
            let log = scene.log(run);
            if log.contains("failed") {
                Ok(log)
            } else {
                Err(log)
            }
        });
        canary.must_not_be_in(&log);
    }
    assert_eq!(on_command_lines, Vec::<String>::new());
    assert!(servers.asked().len() > runs.len(), "{:?}", servers.asked());
    canary.must_not_be_in(&worker.stderr());
    canary.must_not_be_in(&worker.stdout());
    canary.must_not_be_below(program.state_dir());
}

#[test]
fn credentials_that_are_refused_are_named_and_not_repeated() {
    let canary = Canary::new("refused");
    let scene = Scene::without_pool();
    let address = scene.api().url();
    let with_password = address.replace("//", &format!("//{}@", canary.named("user:password")));
    for (name, value, advice) in [
        (
            "PREFECT_API_KEY",
            canary.named("key"),
            "check that PREFECT_API_KEY is valid",
        ),
        (
            "PREFECT_API_AUTH_STRING",
            canary.named("user:password"),
            "check that PREFECT_API_AUTH_STRING is the server's",
        ),
        ("PREFECT_API_URL", with_password, "check PREFECT_API_URL"),
    ] {
        let refused = Fault::Status {
            code: 401,
            retry_after: None,
        };
        scene
            .faults()
            .next(Method::POST, "/work_pools/filter", refused);
        let finished = scene
            .worker()
            .with(name, value)
            .run(&["pool", "ls", "--log-level", "trace"])
            .expect_code(1);
        assert!(finished.stderr.contains(advice), "{finished}");
        canary.must_not_be_in(&finished.stderr);
        canary.must_not_be_in(&finished.stdout);
    }
}

// === impl Canary ===

impl Canary {
    fn new(test: &str) -> Self {
        Self(format!("canary-{}-{test}", std::process::id()))
    }

    /// A secret that ends so, which only helps to see where it came from.
    fn named(&self, name: &str) -> String {
        format!("{}-{name}", self.0)
    }

    #[track_caller]
    fn must_not_be_in(&self, text: &str) {
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(&self.0)).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }

    /// Fails with the name of each file below a directory that has it.
    #[track_caller]
    fn must_not_be_below(&self, directory: &Path) {
        let mut left = vec![directory.to_owned()];
        let mut found: Vec<PathBuf> = Vec::new();
        let mut journals = 0;
        while let Some(path) = left.pop() {
            if path.is_dir() && !path.is_symlink() {
                let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                left.extend(entries.map(|entry| entry.path()));
            } else if path.is_file() {
                journals += usize::from(path.ends_with("journal.db"));
                if fs::read(&path).is_ok_and(|content| self.is_in(&content)) {
                    found.push(path);
                }
            }
        }
        assert_eq!(found, Vec::<PathBuf>::new());
        assert_eq!(journals, 1, "{} was not looked at", directory.display());
    }

    /// The ids of the processes that have it in one of their files below `/proc`.
    fn processes_with(&self, file: &str) -> Vec<String> {
        let processes = fs::read_dir("/proc").expect("this is Linux");
        processes
            .flatten()
            .filter_map(|process| {
                let pid = process.file_name().into_string().ok()?;
                pid.parse::<u32>().ok()?;
                let content = fs::read(process.path().join(file)).ok()?;
                self.is_in(&content).then_some(pid)
            })
            .collect()
    }

    fn is_in(&self, content: &[u8]) -> bool {
        let canary = self.0.as_bytes();
        content.windows(canary.len()).any(|part| part == canary)
    }
}

// === functions ===

/// Steps with a secret in each field that takes one, given as it is or by the block `vault`.
fn steps_with(secret: &str, host: SocketAddr) -> Vec<Value> {
    let url = format!("http://{host}");
    let block = "{{ prefect.blocks.secret.vault }}";
    let git = |inputs: Value| {
        let mut all = json!({"repository": format!("{url}/code.git")});
        let both = all.as_object_mut().expect("an object");
        both.extend(inputs.as_object().expect("an object").clone());
        json!({"prefect.deployments.steps.git_clone": all})
    };
    let s3 = |credentials: Value| {
        json!({"prefect_aws.deployments.steps.pull_from_s3": {
            "bucket": "code", "folder": "f", "credentials": credentials, "client_parameters": {"endpoint_url": url},
        }})
    };
    let azure = |credentials: Value| {
        json!({"prefect_azure.deployments.steps.pull_from_azure_blob_storage": {
            "container": "code", "folder": "f", "credentials": credentials,
        }})
    };
    let remote =
        |inputs: Value| json!({"prefect.deployments.steps.pull_from_remote_storage": inputs});
    vec![
        git(json!({"access_token": secret})),
        git(json!({"access_token": block})),
        git(json!({"credentials": {"token": secret}})),
        git(json!({"credentials": {"username": "u", "password": secret}})),
        git(json!({"credentials": {"username": secret, "token": secret}})),
        git(json!({"credentials": {"access_token": block}})),
        git(json!({"repository": format!("http://u:{secret}@{host}/code.git")})),
        git(json!({"repository": format!("http://{secret}@{host}/code.git")})),
        git(json!({"repository": format!("http://u:{block}@{host}/code.git")})),
        s3(
            json!({"aws_access_key_id": "k", "aws_secret_access_key": secret, "aws_session_token": secret}),
        ),
        s3(json!({"aws_access_key_id": secret, "aws_secret_access_key": block})),
        s3(json!({"minio_root_user": secret, "minio_root_password": secret})),
        azure(
            json!({"connection_string": format!("BlobEndpoint={url}/a;SharedAccessSignature=sv=1&sig={secret}")}),
        ),
        azure(json!({"account_url": format!("{url}/a?sig={secret}")})),
        remote(
            json!({"url": "s3://code/f", "key": "k", "secret": secret, "token": secret, "endpoint_url": url}),
        ),
        remote(json!({"url": format!("{url}/f?sig={secret}"), "headers": {"X-Key": secret}})),
        json!({"prefect.deployments.steps.run_shell_script": {
            "script": "printenv GIVEN\nls /no/such/directory", "env": {"GIVEN": block},
        }}),
    ]
}

/// The id of a process' parent; empty when the process is gone.
fn parent(pid: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The parent is the second word after the name, which is in parentheses.
    let words = status.rsplit(") ").next().unwrap_or_default();
    words.split(' ').nth(1).unwrap_or_default().to_owned()
}
