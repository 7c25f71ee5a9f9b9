//! Code that an init container of our image brings, out of a git repository, into a pod that has neither git nor Prefect.

use serde_json::json;
use worker_tests::{git_server, image, repository::Repository, wait};

use crate::{
    PROGRAM,
    stage::{BOUND, POOL, Stage},
};

/// An image with the program under test in it.
const IMAGE: &str = "worker-test/pull:1";

#[test]
fn an_init_container_brings_the_code_and_nothing_is_left() {
    image::load(PROGRAM, IMAGE);
    let folder = tempfile::tempdir().expect("there is room");
    let repository = Repository::create(&folder.path().join("code"));
    repository.write("greet.sh", "echo hello out of $(basename $(pwd -P))\n");
    repository.commit("Greet");
    let server = git_server::serve(folder.path());
    let stage = Stage::set();
    let url = format!("http://{server}/code/.git");
    let steps = |url: &str| {
        let step =
            json!({"prefect.deployments.steps.git_clone": {"repository": url, "branch": "main"}});
        json!({"pull_steps": [step]})
    };
    let run = stage.run_with("sh greet.sh", &json!({}), &steps(&url));
    let absent = format!("http://{server}/absent/.git");
    let lost = stage.run_with("sh greet.sh", &json!({}), &steps(&absent));
    let worker = stage.worker().with("WORKER_KUBERNETES_PULL_IMAGE", IMAGE);
    let running = worker.start(&["--pool", POOL]);
    let (ended, message) = stage.wait_for_end(&run, &running);
    assert_eq!(ended, "Completed", "{message} {}", stage.log(&run));
    let log = stage.log(&run);
    assert!(log.contains("hello out of "), "{log}");
    let (ended, message) = stage.wait_for_end(&lost, &running);
    assert_eq!(ended, "Crashed", "{message}");
    assert!(message.contains("absent"), "{message} {}", stage.log(&lost));
    for run in [&run, &lost] {
        let gone = || stage.cluster.left_of(run).is_empty();
        assert!(wait::holds(BOUND, gone), "{:?}", stage.cluster.left_of(run));
    }
}

#[test]
fn a_job_that_is_kept_goes_when_its_time_has_come_and_its_secret_with_it() {
    let stage = Stage::set();
    let run = stage.run("true", &json!({"finished_job_ttl": 3}));
    let worker = stage.worker().with("PREFECT_API_KEY", "canary-key");
    let running = worker.start(&["--pool", POOL]);
    let (ended, message) = stage.wait_for_end(&run, &running);
    assert_eq!(ended, "Completed", "{message}");
    let gone = || stage.cluster.left_of(&run).is_empty();
    assert!(
        wait::holds(BOUND, gone),
        "{:?}",
        stage.cluster.left_of(&run)
    );
}
