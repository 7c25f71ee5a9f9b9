use std::{collections::BTreeMap, sync::Mutex};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Retry, git};

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

#[async_trait]
impl Outside for Log {
    async fn tell(&self, _level: Level, message: String) {
        self.0.lock().expect("no test panics here").push(message);
    }

    async fn github_token(&self, owner: &str, repository: &str) -> Result<Secret, String> {
        match owner {
            "owner" => Ok(Secret::new(format!("ghs_of_{repository}"))),
            _ => Err("the app is not installed".to_owned()),
        }
    }

    fn environment(&self, name: &str) -> Option<String> {
        (name == "WHO").then(|| "me".to_owned())
    }
}

/// A directory to run steps in.
struct Scene {
    root: tempfile::TempDir,
    log: Log,
    lookups: Lookups,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(root.path().join("base/sub")).expect("a directory");
        fs::create_dir_all(root.path().join("workspace")).expect("a directory");
        Self {
            root,
            log: Log::default(),
            lookups: Lookups::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        let root = fs::canonicalize(self.root.path()).expect("it is there");
        root.join(name)
    }

    async fn run(&self, steps: Value) -> Result<Pulled, StepFailed> {
        self.run_until(steps, CancellationToken::new()).await
    }

    async fn run_until(
        &self,
        steps: Value,
        cancelled: CancellationToken,
    ) -> Result<Pulled, StepFailed> {
        self.run_as(steps, cancelled, None).await
    }

    /// The same with another interpreter than the machine's.
    async fn run_as(
        &self,
        steps: Value,
        cancelled: CancellationToken,
        python: Option<PathBuf>,
    ) -> Result<Pulled, StepFailed> {
        let Value::Array(steps) = steps else {
            unreachable!()
        };
        let steps = steps.iter().map(|step| {
            let (name, inputs) = step
                .as_object()
                .and_then(|step| step.iter().next())
                .expect("a step");
            let name = format!("prefect.deployments.steps.{name}");
            Step::parse(&Map::from_iter([(name, inputs.clone())]), true).expect("a known step")
        });
        let steps: Vec<Step> = steps.collect();
        let git = Git::new(git::Options {
            cache: self.path("cache"),
            bounds: git::Bounds::default(),
            patience: git::Patience::default(),
            certificates: None,
            ssh: vec!["ssh".to_owned()],
            lfs: true,
        });
        let path = std::env::var("PATH").unwrap_or_default();
        let runner = Runner {
            git: &git.expect("no certificates to read"),
            terms: &blob::Terms {
                ambient: blob::Ambient::default(),
                stall: std::time::Duration::from_secs(5),
                retry: Retry::default(),
            },
            operation: &Operation {
                cancelled,
                progress: Arc::new(|_| {}),
            },
            outside: &self.log,
            lookups: &self.lookups,
            shell: Some(&Shell {
                environment: BTreeMap::from([("PATH".to_owned(), path)]),
                python,
            }),
            base: &self.path("base"),
            workspace: &self.path("workspace"),
        };
        runner.run(&steps).await
    }
}

#[tokio::test]
async fn outputs_feed_later_steps_and_are_not_searched_for_placeholders() {
    let scene = Scene::new();
    let pulled = scene
        .run(json!([
            {"run_shell_script": {"id": "first", "script": "echo '{{ $WHO }}' and 'a {{'' b }}'"}},
            {"run_shell_script": {"id": "second", "script": "echo \"got {{ first.stdout }}\""}},
        ]))
        .await
        .expect("both run");
    assert_eq!(pulled.outputs["first"]["stdout"], "me and a {{ b }}");
    assert_eq!(pulled.outputs["second"]["stdout"], "got me and a {{ b }}");
    assert_eq!(pulled.outputs["stdout"], "got me and a {{ b }}");
    assert_eq!(pulled.directory, None);
}

#[tokio::test]
async fn each_line_is_a_program_of_its_own_unless_a_shell_is_asked_for() {
    let scene = Scene::new();
    let stdout = async |inputs: Value| {
        let pulled = scene.run(json!([{ "run_shell_script": inputs }])).await;
        pulled.map(|pulled| pulled.outputs["stdout"].clone())
    };
    let lines = json!({"script": "echo $A | cat\n\n  echo two", "env": {"A": "x"}});
    assert_eq!(stdout(lines).await.expect("runs"), "$A | cat\ntwo");
    let expanded = json!({"script": "echo $A ${B}", "env": {"A": "x"}, "expand_env_vars": true});
    assert_eq!(stdout(expanded).await.expect("runs"), "x ${B}");
    let shell = json!({"script": "A=1; echo $A | tr 1 2\necho \"[$A]\"", "shell": true});
    assert_eq!(stdout(shell).await.expect("runs"), "2\n[]");
    let whole = json!({"script": "#!/bin/sh\ncd /\nA=1\nif true; then\n  echo \"$A $PWD\"\nfi"});
    assert_eq!(stdout(whole).await.expect("runs"), "1 /");
    let failing = json!({"script": "ls /nowhere-at-all\necho never"});
    let error = stdout(failing)
        .await
        .expect_err("it fails")
        .source
        .to_string();
    assert!(
        error.starts_with("`run_shell_script` failed with error code 2: ls:"),
        "{error}"
    );
    let error = stdout(json!({"script": "cd /"}))
        .await
        .expect_err("no such program");
    assert!(
        matches!(error.source, StepError::Program { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_directory_is_the_last_that_a_step_gave() {
    let scene = Scene::new();
    let at = async |steps: Value| scene.run(steps).await.map(|pulled| pulled.directory);
    let go = |to: &str| json!({"set_working_directory": {"directory": to}});
    assert_eq!(
        at(json!([go("sub")])).await.expect("there"),
        Some(scene.path("base/sub"))
    );
    let up = at(json!([go("sub"), go("..")])).await;
    assert_eq!(up.expect("there"), Some(scene.path("base")));
    let error = at(json!([go("gone")])).await.expect_err("not there");
    assert_eq!(error.step, "set_working_directory");
    let made = at(json!([{"run_shell_script": {"script": "touch made.txt"}}])).await;
    assert_eq!(made.expect("runs"), Some(scene.path("workspace")));
}

#[tokio::test]
async fn secrets_do_not_reach_the_log() {
    let mut scene = Scene::new();
    let Value::Object(data) = json!({"value": "canary-token"}) else {
        unreachable!()
    };
    let key = ("secret".to_owned(), "t".to_owned());
    scene.lookups.blocks.insert(key, Some(data));
    let steps =
        json!([{"run_shell_script": {"script": "echo shown {{ prefect.blocks.secret.t }}"}}]);
    let pulled = scene.run(steps).await.expect("runs");
    assert_eq!(pulled.outputs["stdout"], "shown canary-token");
    let failing = json!([{"run_shell_script": {"script": "ls /{{ prefect.blocks.secret.t }}"}}]);
    let error = scene
        .run(failing)
        .await
        .expect_err("fails")
        .source
        .to_string();
    assert!(error.contains("/***"), "{error}");
    let log = scene.log.0.lock().expect("no test panics here").join("\n");
    assert!(
        log.contains("shown ***") && !log.contains("canary"),
        "{log}"
    );
}

#[tokio::test]
async fn a_script_ends_with_all_that_it_started_when_the_steps_are_ended() {
    let scene = Scene::new();
    let pid = scene.path("pid");
    let cancelled = CancellationToken::new();
    let script = format!("sh -c 'sleep 600 & echo $! > {} && wait'", pid.display());
    let steps = json!([{ "run_shell_script": {"script": script} }]);
    let running = scene.run_until(steps, cancelled.clone());
    let ending = async {
        while !fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        cancelled.cancel();
    };
    let both = async { tokio::join!(running, ending).0 };
    let ended = tokio::time::timeout(std::time::Duration::from_mins(1), both).await;
    let error = ended.expect("it ends").expect_err("it was ended");
    assert!(
        matches!(error.source, StepError::Interrupted(_)),
        "{error:?}"
    );
    let pid = fs::read_to_string(&pid).expect("written");
    let state = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let gone = async {
        while !(state().is_empty() || state().contains(") Z ")) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let gone = tokio::time::timeout(std::time::Duration::from_mins(1), gone).await;
    gone.expect("what the script started is gone");
}

#[tokio::test]
async fn a_token_of_the_github_app_is_asked_for_and_no_program_is_started() {
    let scene = Scene::new();
    let ask = "uv tool run prefect-cloud github token owner/repo";
    let pulled = scene
        .run(json!([
            {"run_shell_script": {"id": "token", "script": ask}},
            {"run_shell_script": {"script": "echo {{ token.stdout }}"}},
        ]))
        .await
        .expect("nothing has to be installed for it");
    assert_eq!(pulled.outputs["token"]["stdout"], "ghs_of_repo");
    let log = scene.log.0.lock().expect("no test panics here").join("\n");
    assert!(log.contains("***") && !log.contains("ghs_of"), "{log}");
    let refused = scene
        .run(json!([{"run_shell_script": {"script": "prefect-cloud github token other/repo"}}]))
        .await
        .expect_err("there is none");
    assert_eq!(
        refused.source.to_string(),
        "no GitHub token for other/repo: the app is not installed"
    );
}

#[tokio::test]
async fn an_installer_that_is_cancelled_ends_with_all_it_started() {
    use std::os::unix::fs::PermissionsExt as _;

    let scene = Scene::new();
    let mark = format!("{}.314159", std::process::id());
    let python = scene.path("workspace/python");
    let text = format!("#!/bin/sh\nsleep {mark} &\ntouch begun\nsleep {mark}\n");
    fs::write(&python, text).expect("a file");
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::write(scene.path("workspace/requirements.txt"), "").expect("a file");
    let sleeps = || {
        let processes = fs::read_dir("/proc").expect("procfs").flatten();
        let mut lines = processes.filter_map(|one| fs::read(one.path().join("cmdline")).ok());
        lines.any(|line| String::from_utf8_lossy(&line).contains(&mark))
    };
    let cancelled = CancellationToken::new();
    let installing = scene.run_as(
        json!([{"pip_install_requirements": {}}]),
        cancelled.clone(),
        Some(python),
    );
    let cancelling = async {
        while !scene.path("workspace/begun").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        cancelled.cancel();
    };
    let (failed, ()) = tokio::join!(installing, cancelling);
    let error = failed.expect_err("it was cancelled").source;
    assert!(matches!(error, StepError::Interrupted(_)), "{error}");
    let gone = async {
        while sleeps() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let gone = tokio::time::timeout(std::time::Duration::from_secs(20), gone).await;
    assert!(gone.is_ok(), "something of it is left");
}
