//! An API that goes wrong at each of its routes in each way it can: no flow run is lost, none runs twice, the worker
//! stays, and its slot is free again.
//!
//! Each case is a worker of its own with one slot, an API of its own and two runs. The first run meets the fault; that
//! the second is completed shows that the slot came back.

use std::{panic::resume_unwind, path::Path, thread, time::Duration};

use http::Method;
use serde_json::json;
use worker_server::{Fault, Faults};
use worker_tests::{program::Running, wait};

use crate::{
    scene::{BOUND, Scene, lines_of, script, wait_for_status},
    stage::POOL,
};

/// A request that the worker makes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Request {
    FindPool,
    Heartbeat,
    Poll,
    Claim,
    /// The question that follows a claim whose answer was lost.
    AskForClaim,
    ReadDeployment,
    ReadFlow,
    ReadPool,
    ReadBlock,
    ReadVariable,
    SetSubmitting,
    SetRunning,
    SetInfrastructure,
    SetLabels,
    ReadRun,
    SetFinal,
    SendLogs,
    FindCancelled,
}

/// How a request goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    Unauthorized,
    NotFound,
    Conflict,
    Invalid,
    TooMany,
    Broken,
    Away,
    Garbage,
    Empty,
    Truncated,
    Hanging,
    ResetBefore,
    ResetAfter,
}

/// Every way to go wrong.
const WRONG: [Wrong; 13] = [
    Wrong::Unauthorized,
    Wrong::NotFound,
    Wrong::Conflict,
    Wrong::Invalid,
    Wrong::TooMany,
    Wrong::Broken,
    Wrong::Away,
    Wrong::Garbage,
    Wrong::Empty,
    Wrong::Truncated,
    Wrong::Hanging,
    Wrong::ResetBefore,
    Wrong::ResetAfter,
];

/// How the run that meets the fault ends where it is not Completed. These are the answers that only the server itself
/// gives, and that mean something: what is not there, or will never be accepted.
const OTHERWISE: [(Request, Wrong, &str); 18] = [
    (Request::ReadDeployment, Wrong::NotFound, "Cancelled"),
    (Request::ReadDeployment, Wrong::Conflict, "Crashed"),
    (Request::ReadDeployment, Wrong::Invalid, "Crashed"),
    (Request::ReadFlow, Wrong::NotFound, "Crashed"),
    (Request::ReadFlow, Wrong::Conflict, "Crashed"),
    (Request::ReadFlow, Wrong::Invalid, "Crashed"),
    (Request::ReadPool, Wrong::NotFound, "Crashed"),
    (Request::ReadPool, Wrong::Conflict, "Crashed"),
    (Request::ReadPool, Wrong::Invalid, "Crashed"),
    (Request::ReadBlock, Wrong::NotFound, "Crashed"),
    (Request::ReadBlock, Wrong::Conflict, "Crashed"),
    (Request::ReadBlock, Wrong::Invalid, "Crashed"),
    // A variable that is not there is no error, as under the reference.
    (Request::ReadVariable, Wrong::Conflict, "Crashed"),
    (Request::ReadVariable, Wrong::Invalid, "Crashed"),
    // A run that was deleted is nobody's any more; it was not, so it stays as it was.
    (Request::AskForClaim, Wrong::NotFound, "Pending"),
    (Request::SetSubmitting, Wrong::NotFound, "Pending"),
    (Request::ReadRun, Wrong::NotFound, "Running"),
    (Request::SetFinal, Wrong::NotFound, "Running"),
];

#[test]
fn a_run_that_cannot_be_read_holds_up_no_other() {
    let scene = Scene::set();
    let run = scene.run(&scene.deploy_command("true"));
    let poll = format!("/work_pools/{POOL}/get_scheduled_flow_runs");
    let mut due = scene.api().post(&poll, &json!({}));
    let entries = due.as_array_mut().expect("a poll is answered with a list");
    entries.insert(0, json!({"flow_run": {"id": "of-another-time"}}));
    let (method, path, _) = Request::Poll.route();
    scene
        .faults()
        .next(method, path, Fault::Body(due.to_string()));
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL]);
    scene.wait_for(&run, "Completed", &worker);
    let said = "cannot read a scheduled flow run, so it is left to other workers";
    assert!(worker.stderr().contains(said), "{}", worker.stderr());
    assert!(
        worker.stderr().contains("of-another-time"),
        "{}",
        worker.stderr()
    );
}

#[test]
fn no_run_is_lost_when_the_pool_cannot_be_found() {
    withstands(Request::FindPool);
}

#[test]
fn no_run_is_lost_when_heartbeats_fail() {
    withstands(Request::Heartbeat);
}

#[test]
fn no_run_is_lost_when_polls_fail() {
    withstands(Request::Poll);
}

#[test]
fn no_run_is_lost_or_run_twice_when_claims_fail() {
    withstands(Request::Claim);
}

#[test]
fn no_run_is_lost_or_run_twice_when_nobody_says_whose_it_is() {
    withstands(Request::AskForClaim);
}

#[test]
fn no_run_is_lost_when_its_deployment_cannot_be_read() {
    withstands(Request::ReadDeployment);
}

#[test]
fn no_run_is_lost_when_its_flow_cannot_be_read() {
    withstands(Request::ReadFlow);
}

#[test]
fn no_run_is_lost_when_the_template_cannot_be_read() {
    withstands(Request::ReadPool);
}

#[test]
fn no_run_is_lost_when_a_block_cannot_be_read() {
    withstands(Request::ReadBlock);
}

#[test]
fn no_run_is_lost_when_a_variable_cannot_be_read() {
    withstands(Request::ReadVariable);
}

#[test]
fn no_run_is_lost_when_it_cannot_be_said_that_it_is_submitted() {
    withstands(Request::SetSubmitting);
}

#[test]
fn no_run_is_lost_when_it_cannot_be_said_that_it_runs() {
    withstands(Request::SetRunning);
}

#[test]
fn no_run_is_lost_when_its_infrastructure_cannot_be_named() {
    withstands(Request::SetInfrastructure);
}

#[test]
fn no_run_is_lost_when_it_cannot_be_labelled() {
    withstands(Request::SetLabels);
}

#[test]
fn no_run_is_lost_when_its_state_cannot_be_read() {
    withstands(Request::ReadRun);
}

#[test]
fn no_run_is_lost_when_its_end_cannot_be_told() {
    withstands(Request::SetFinal);
}

#[test]
fn no_run_is_lost_when_its_log_cannot_be_sent() {
    withstands(Request::SendLogs);
}

#[test]
fn no_run_is_lost_when_nobody_can_be_asked_for_cancelled_ones() {
    withstands(Request::FindCancelled);
}

// === impl Request ===

impl Request {
    /// Its route, and how many requests of that route come before it.
    fn route(self) -> (Method, &'static str, usize) {
        let set_state = "/flow_runs/{id}/set_state";
        match self {
            Self::FindPool | Self::ReadPool => (Method::GET, "/work_pools/{name}", 0),
            Self::Heartbeat => (Method::POST, "/work_pools/{name}/workers/heartbeat", 0),
            Self::Poll => (
                Method::POST,
                "/work_pools/{name}/get_scheduled_flow_runs",
                0,
            ),
            Self::Claim => (Method::POST, set_state, 0),
            Self::ReadDeployment => (Method::GET, "/deployments/{id}", 0),
            Self::ReadFlow => (Method::GET, "/flows/{id}", 0),
            Self::ReadBlock => (
                Method::GET,
                "/block_types/slug/{slug}/block_documents/name/{name}",
                0,
            ),
            Self::ReadVariable => (Method::GET, "/variables/name/{name}", 0),
            Self::SetSubmitting => (Method::POST, set_state, 1),
            Self::SetRunning => (Method::POST, set_state, 2),
            Self::SetInfrastructure => (Method::PATCH, "/flow_runs/{id}", 0),
            Self::SetLabels => (Method::PATCH, "/flow_runs/{id}/labels", 0),
            Self::AskForClaim | Self::ReadRun => (Method::GET, "/flow_runs/{id}", 0),
            Self::SetFinal => (Method::POST, set_state, 3),
            Self::SendLogs => (Method::POST, "/logs", 0),
            Self::FindCancelled => (Method::POST, "/flow_runs/filter", 0),
        }
    }

    /// Whether a worker makes it before it has anything to do.
    fn is_first(self) -> bool {
        matches!(self, Self::FindPool | Self::Heartbeat | Self::Poll)
    }
}

// === impl Wrong ===

impl Wrong {
    fn plan(self, faults: &Faults, request: Request) {
        if request == Request::AskForClaim {
            Self::ResetAfter.plan(faults, Request::Claim);
        }
        let (method, path, before) = request.route();
        faults.times(before, method.clone(), path, Fault::Delay(Duration::ZERO));
        let status = |code| Fault::Status {
            code,
            retry_after: None,
        };
        // A lost connection is repeated at once, so that one would not be noticed.
        let (count, fault) = match self {
            Self::Unauthorized => (1, status(401)),
            Self::NotFound => (1, status(404)),
            Self::Conflict => (1, status(409)),
            Self::Invalid => (1, status(422)),
            Self::TooMany => (
                2,
                Fault::Status {
                    code: 429,
                    retry_after: Some(1),
                },
            ),
            Self::Broken => (2, status(500)),
            Self::Away => (2, status(503)),
            Self::Garbage => (1, Fault::Garbage),
            Self::Empty => (1, Fault::Empty),
            Self::Truncated => (1, Fault::TruncatedBody),
            Self::Hanging => (1, Fault::Hang),
            Self::ResetBefore => (2, Fault::ResetBeforeCommit),
            Self::ResetAfter => (2, Fault::ResetAfterCommit),
        };
        faults.times(count, method, path, fault);
    }
}

// === functions ===

/// Lets a request go wrong in each way, all at the same time, each beside a worker of its own.
fn withstands(request: Request) {
    thread::scope(|scope| {
        let cases = WRONG.map(|wrong| {
            thread::Builder::new()
                .name(format!("{request:?} {wrong:?}"))
                .spawn_scoped(scope, move || case(request, wrong))
                .expect("a thread can be started")
        });
        for case in cases {
            if let Err(panic) = case.join() {
                resume_unwind(panic);
            }
        }
    });
}

fn case(request: Request, wrong: Wrong) {
    let scene = Scene::set();
    let directory = scene.directory("jobs");
    let (ran, gate) = (directory.join("ran"), directory.join("gate"));
    let deployment = deploy(&scene, &ran, &gate);
    if request.is_first() {
        wrong.plan(scene.faults(), request);
    }
    // The pool is read before each heartbeat, and that is not the reading that is meant to fail.
    let heartbeat = if request == Request::ReadPool {
        "60"
    } else {
        "0.5"
    };
    // Short where it is waited for; elsewhere a slow machine is no fault.
    let timeout = if wrong == Wrong::Hanging { "2" } else { "30" };
    let program = scene
        .worker()
        .with("PREFECT_API_REQUEST_TIMEOUT", timeout)
        .with("PREFECT_WORKER_HEARTBEAT_SECONDS", heartbeat);
    let mut arguments = vec!["--pool", POOL, "--type", "process", "--limit", "1"];
    arguments.extend(["--with-healthcheck", "--status-port", "0"]);
    let mut worker = program.start(&arguments);
    let status = wait_for_status(&worker);
    wait_until(&worker, "it has sent a heartbeat", || {
        let (method, path, _) = Request::Heartbeat.route();
        scene.requests().count(&method, path) > 0
    });
    if !request.is_first() {
        wrong.plan(scene.faults(), request);
    }
    let runs = scene.runs(2, &deployment);
    // Cancelled runs are only asked for while there are some that could be.
    let open_gate = || std::fs::write(&gate, "").expect("the directory is writable");
    if request != Request::FindCancelled {
        open_gate();
    }
    wait_until(&worker, "all faults have happened", || {
        scene.faults().remaining() == 0
    });
    open_gate();
    let mut expected = [end_of_first(request, wrong), "Completed"];
    expected.sort_unstable();
    wait::until("the runs have ended as they should", BOUND, || {
        let mut seen: Vec<String> = runs.iter().map(|run| scene.state(run)).collect();
        seen.sort();
        if seen == expected {
            Ok(())
        } else {
            Err(format!(
                "{seen:?} instead of {expected:?}; {}",
                worker.stderr()
            ))
        }
    });
    wait_until(&worker, "its slot is free", || {
        status.get("/status")["flow_runs"]["held"] == 0
    });
    assert!(!worker.has_ended(), "{}", worker.stderr());
    for run in &runs {
        let times = lines_of(&ran).iter().filter(|id| *id == run).count();
        let started = ["Completed", "Running"].contains(&scene.state(run).as_str());
        assert_eq!(times, usize::from(started), "{}", worker.stderr());
    }
}

/// Deploys a job that needs a block and a variable, says that it ran, and ends when the gate is open.
fn deploy(scene: &Scene, ran: &Path, gate: &Path) -> String {
    let lines = format!(
        "echo \"$PREFECT__FLOW_RUN_ID\" | tee -a {ran}\nfor _ in $(seq 400); do [ -e {gate} ] && exit 0; sleep 0.1; done; exit 1\n",
        ran = ran.display(),
        gate = gate.display()
    );
    scene.create_secret_block("vault", "jewels");
    let variable = json!({"name": "colour", "value": "blue"});
    scene.api().post("/variables/", &variable);
    scene.deploy(
        "job",
        &json!({"job_variables": {
            "command": script(&scene.directory("jobs"), "job.sh", &lines),
            "env": {"A": "{{ prefect.blocks.secret.vault }}", "B": "{{ prefect.variables.colour }}"},
        }}),
    )
}

fn end_of_first(request: Request, wrong: Wrong) -> &'static str {
    OTHERWISE
        .iter()
        .find(|(this, way, _)| (*this, *way) == (request, wrong))
        .map_or("Completed", |(_, _, state)| state)
}

#[track_caller]
fn wait_until(worker: &Running, what: &str, condition: impl Fn() -> bool) {
    wait::until(what, BOUND, || {
        if condition() {
            Ok(())
        } else {
            Err(worker.stderr())
        }
    });
}
