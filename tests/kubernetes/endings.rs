//! All the ways in which a Job ends, or never begins, and what the run page says of each.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use worker_tests::wait;

use crate::stage::{
    BOUND, IMAGE, NAMESPACE, POOL, Stage, kubectl, kubectl_in, make_namespace, text,
};

/// A command, what else its job asks for, the name of its end and what its message says.
type Case = (&'static str, Value, &'static str, &'static [&'static str]);

fn cases() -> Vec<Case> {
    let beside = json!({
        "name": "beside",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["sleep", "600"],
    });
    vec![
        ("echo fine", json!({}), "Completed", &[]),
        (
            "sh -c 'echo before; echo why >&2; exit 3'",
            json!({}),
            "Crashed",
            &["non-zero status code 3", "Last output: "],
        ),
        (
            "sh -c 'dd if=/dev/zero of=/tmp/big bs=1M count=64; sleep 600'",
            json!({"disk_limit": "8Mi"}),
            "Crashed",
            &["its pod was evicted", "ephemeral"],
        ),
        (
            "sleep 600",
            json!({"deadline": 5}),
            "Crashed",
            &["DeadlineExceeded"],
        ),
        (
            "sh -c 'exit 4'",
            json!({"sidecar": beside}),
            "Crashed",
            &["non-zero status code 4"],
        ),
        (
            "no-such-program --fast",
            json!({}),
            "Crashed",
            &["never started", "no-such-program"],
        ),
        (
            "true",
            json!({"image": "127.0.0.1:1/nope:1", "pod_watch_timeout_seconds": 5}),
            "Crashed",
            &["never started", "127.0.0.1:1/nope:1", "cannot be pulled"],
        ),
        (
            "sleep 600",
            json!({"job_watch_timeout_seconds": 5}),
            "Crashed",
            &["job_watch_timeout_seconds of 5 s"],
        ),
        (
            "true",
            json!({"namespace": "no-such-namespace"}),
            "Crashed",
            &["Failed to submit", "no-such-namespace"],
        ),
        (
            "true",
            json!({"memory_limit": "lots"}),
            "Crashed",
            &["Failed to submit", "the cluster does not take it"],
        ),
    ]
}

#[test]
fn a_run_page_says_how_its_job_ended_or_why_it_never_began() {
    let stage = Stage::set();
    let cases = cases();
    let runs: Vec<String> = cases
        .iter()
        .map(|(command, more, ..)| stage.run(command, more))
        .collect();
    let worker = stage.worker();
    let running = worker.start(&["--pool", POOL]);
    for (run, (command, more, state, says)) in runs.iter().zip(&cases) {
        let (ended, message) = stage.wait_for_end(run, &running);
        assert_eq!(&ended, state, "{command} {more}: {message}");
        for said in *says {
            assert!(
                message.contains(said),
                "{command} {more}: no {said:?} in {message:?}"
            );
        }
        let gone = || stage.cluster.left_of(run).is_empty();
        assert!(wait::holds(BOUND, gone), "{command}: its Job is left");
    }
    let log = stage.log(&runs[1]);
    for said in ["before", "why", "The last lines of its output:\n"] {
        assert!(log.contains(said), "no {said:?} in {log}");
    }
    let nowhere = cases
        .iter()
        .position(|case| case.3.contains(&"cannot be pulled"));
    let log = stage.log(&runs[nowhere.expect("it is among them")]);
    assert!(
        log.contains("Not started yet: its image cannot be pulled"),
        "{log}"
    );
    let states = stage.states(&runs[0]);
    let names: Vec<&str> = states.iter().map(String::as_str).collect();
    assert_eq!(names.last(), Some(&"Completed"));
    assert!(names.contains(&"Running"), "{names:?}");
}

/// A container runtime hears of a kill for lack of memory and of the end of the process from two sources. Where the end comes first, the
/// pod's status says no more than 137, for good, and so does the run: it is what the cluster says that the run must say.
#[test]
fn a_run_page_says_that_memory_ran_out_where_the_cluster_says_it() {
    let stage = Stage::set();
    let worker = stage.worker();
    let running = worker.start(&["--pool", POOL]);
    // Only the end of a container's first process is told as one for lack of memory. The Job stays, to be asked.
    let more = json!({"memory_limit": "32Mi", "shared_processes": false, "finished_job_ttl": 600});
    let told = (0..5).any(|_| {
        let run = stage.run("dd if=/dev/zero of=/dev/null bs=200M count=3", &more);
        let (name, message) = stage.wait_for_end(&run, &running);
        assert_eq!(name, "Crashed", "{message}");
        let pods = stage.cluster.of_run("pods", &run);
        let ended = &pods[0]["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(ended["exitCode"], 137, "{pods:?}");
        let known = ended["reason"] == "OOMKilled";
        let expected: &[&str] = if known {
            &["out of memory (OOM)", "32 MiB"]
        } else {
            &["137", "often for lack of memory"]
        };
        for said in expected {
            assert!(
                message.contains(said),
                "no {said:?} in {message:?}: {ended}"
            );
        }
        known
    });
    assert!(told, "the cluster said of none of five that memory ran out");
}

#[test]
fn a_job_is_what_the_pool_asks_for_and_the_api_knows_it() {
    let stage = Stage::set();
    let more = json!({"labels": {"team/x": "Größe & Co"}, "env": {"GREETING": "hi"}, "finished_job_ttl": 600});
    let run = stage.run("sh -c 'echo $GREETING; sleep 3'", &more);
    let worker = stage.worker().with("PREFECT_API_KEY", "canary-key");
    let running = worker.start(&["--pool", POOL]);
    let job = stage.wait_for_pod(&run, &running);
    let shown = stage.cluster.of_run("jobs", &run).remove(0);
    assert!(!shown.to_string().contains("canary"), "{shown}");
    let labels = &shown["metadata"]["labels"];
    assert_eq!(labels["team/x"], "Grosse-Co");
    assert_eq!(labels["prefect.io/flow-run-id"], run);
    assert_eq!(labels["prefect.io/work-pool-name"], POOL);
    assert_eq!(shown["spec"]["backoffLimit"], 0);
    let (ended, message) = stage.wait_for_end(&run, &running);
    assert_eq!(ended, "Completed", "{message}");
    assert!(stage.log(&run).contains("hi"));
    let seen = stage.api().get(&format!("/flow_runs/{run}"));
    let pid = text(&seen["infrastructure_pid"]);
    assert_eq!(pid, format!("{NAMESPACE}:{job}"));
    // Somebody wants to look at it for a while.
    assert_eq!(stage.cluster.of_run("jobs", &run).len(), 1);
    kubectl(&["delete", "job", &job]);
}

#[test]
fn a_cancelled_run_ends_politely_or_by_force() {
    let stage = Stage::set();
    let polite = "sh -c 'trap \"echo tidied; exit 0\" TERM; echo up; while :; do sleep 0.1; done'";
    let deaf = "sh -c 'trap \"\" TERM; echo up; while :; do sleep 0.1; done'";
    let runs = [polite, deaf].map(|command| stage.run(command, &json!({})));
    let worker = stage.worker();
    let running = worker.start(&["--pool", POOL]);
    for run in &runs {
        wait::until("the job is up", BOUND, || {
            let log = stage.log(run);
            if log.contains("up") {
                Ok(())
            } else {
                Err(running.stderr())
            }
        });
        stage.cancel(run);
    }
    for (run, how) in runs.iter().zip(["code 0", "SIGKILL"]) {
        let (ended, message) = stage.wait_for_end(run, &running);
        assert_eq!(ended, "Cancelled", "{message}");
        // A kubelet before 1.22 may lose how a container ended that was told to.
        let may_be_lost = stage.cluster.minor_version() < 22;
        let is_told = message.contains(how);
        assert!(
            is_told || may_be_lost && message.contains("did not record how"),
            "{message}"
        );
    }
    assert!(stage.log(&runs[0]).contains("tidied"));
}

#[test]
fn a_worker_that_dies_leaves_its_jobs_to_the_next() {
    let stage = Stage::set();
    let commands = [
        "sh -c 'sleep 4; exit 0'",
        "sh -c 'sleep 4; exit 4'",
        "sleep 600",
    ];
    let runs = commands.map(|command| stage.run(command, &json!({})));
    let worker = stage.worker();
    let first = worker.start(&["--pool", POOL, "--name", "ada"]);
    let last = stage.wait_for_pod(&runs[2], &first);
    for run in &runs {
        let there = || stage.cluster.of_run("jobs", run).len() == 1;
        assert!(wait::holds(BOUND, there), "{}", first.stderr());
    }
    first.signal(Signal::SIGKILL);
    first.finish();

    let second = worker.start(&["--pool", POOL, "--name", "ada"]);
    let (ended, message) = stage.wait_for_end(&runs[0], &second);
    assert_eq!(ended, "Completed", "{message}");
    let (ended, message) = stage.wait_for_end(&runs[1], &second);
    assert_eq!(
        (ended.as_str(), message.contains("code 4")),
        ("Crashed", true),
        "{message}"
    );
    let jobs = stage.cluster.of_run("jobs", &runs[2]);
    assert_eq!(jobs.len(), 1);
    assert_eq!(text(&jobs[0]["metadata"]["name"]), last);
    stage.cancel(&runs[2]);
    let (ended, message) = stage.wait_for_end(&runs[2], &second);
    assert_eq!(ended, "Cancelled", "{message}");
}

#[test]
fn what_others_do_to_a_job_is_told() {
    let stage = Stage::set();
    let [whole, one] = [(); 2].map(|()| stage.run("sleep 600", &json!({})));
    let worker = stage.worker();
    let running = worker.start(&["--pool", POOL]);
    let job = stage.wait_for_pod(&whole, &running);
    kubectl(&["delete", "job", &job, "--wait=false"]);
    let (ended, message) = stage.wait_for_end(&whole, &running);
    assert_eq!(ended, "Crashed", "{message}");
    assert!(message.contains("deleted by somebody else"), "{message}");
    // A Job whose pod is deleted has another made; a newer one counts that as its last failure, and ends.
    stage.wait_for_pod(&one, &running);
    let pod = stage.cluster.of_run("pods", &one).remove(0);
    let name = text(&pod["metadata"]["name"]);
    kubectl(&["delete", "pod", &name, "--wait=false", "--grace-period=1"]);
    let says = "its pod was deleted by somebody else, so its Job has begun another";
    let goes_on = wait::until("it is told", BOUND, || {
        let log = stage.log(&one);
        let (now, message) = stage.state(&one);
        match (log.contains(says), now.as_str()) {
            (true, _) => Ok(true),
            (false, "Crashed") => Ok(false),
            _ => Err(format!("{now} {message}; {log}")),
        }
    });
    if goes_on {
        stage.cancel(&one);
    }
    let (ended, message) = stage.wait_for_end(&one, &running);
    if goes_on {
        assert_eq!(ended, "Cancelled", "{message}");
    } else {
        assert!(message.contains("deleted by somebody else"), "{message}");
    }
}

#[test]
fn a_job_that_no_node_has_room_for_says_so_and_can_be_cancelled() {
    let stage = Stage::set();
    let run = stage.run("true", &json!({"cpu_request": "640"}));
    let worker = stage.worker();
    let running = worker.start(&["--pool", POOL]);
    wait::until("the reason is told", BOUND, || {
        let log = stage.log(&run);
        let says = [
            "Not started yet: no node has room for its pod",
            "Insufficient cpu",
        ];
        if says.iter().all(|said| log.contains(said)) {
            Ok(())
        } else {
            Err(format!("{log} {}", running.stderr()))
        }
    });
    assert!(
        stage
            .states(&run)
            .contains(&"InfrastructurePending".to_owned())
    );
    stage.cancel(&run);
    let (ended, message) = stage.wait_for_end(&run, &running);
    assert_eq!(ended, "Cancelled", "{message}");
    let gone = || stage.cluster.left_of(&run).is_empty();
    assert!(wait::holds(BOUND, gone), "its Job is left");
}

#[test]
fn a_job_for_which_there_is_no_quota_waits_and_runs_later() {
    let stage = Stage::set();
    let namespace = "worker-tests-quota";
    make_namespace(namespace);
    let quota = [
        "get",
        "resourcequota",
        "--output=name",
        "--ignore-not-found",
        "one-job",
    ];
    if kubectl_in(namespace, &quota).is_empty() {
        kubectl_in(
            namespace,
            &["create", "quota", "one-job", "--hard=count/jobs.batch=1"],
        );
    }
    let more = json!({"namespace": namespace});
    let runs = [(); 2].map(|()| stage.run("sleep 8", &more));
    let worker = stage.worker();
    let running = worker.start(&["--pool", POOL]);
    for run in &runs {
        let (ended, message) = stage.wait_for_end(run, &running);
        assert_eq!(ended, "Completed", "{message}");
    }
    let logs = runs.map(|run| stage.log(&run)).concat();
    assert!(logs.contains("exceeded quota: one-job"), "{logs}");
}
