//! A worker of one kind beside a server of one kind, and what is made on that server for it.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use worker_tests::{
    files::root,
    http::Api,
    prefect::Python,
    program::{Program, Running},
    wait,
};

use crate::{
    PROGRAM,
    story::{Names, find_events, items, text},
};

/// The longest that anything here may take: a Python worker with a full machine needs most.
const BOUND: Duration = Duration::from_mins(2);

/// How long a worker may take until it is known that it has noticed an end. It is told late on a real server, and a
/// worker that never tells is found by what it did not tell.
const NOTICE: Duration = Duration::from_secs(10);

/// How often both kinds of worker poll here, in seconds. At the default of ten the matrix would mostly wait.
const QUERY: &str = "2";

/// Long before the test begins: what was due then is late at once.
pub(crate) const PAST: &str = "2026-01-01T00:00:00Z";

/// Whose worker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerKind {
    Python,
    Ours,
}

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    Prefect,
    Embedded,
}

/// A worker of one kind beside a server of one kind.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) api: Api,
    kind: WorkerKind,
    program: Program,
    code: PathBuf,
    names: RefCell<Names>,
    workers: RefCell<BTreeMap<&'static str, Running>>,
}

// === impl Column ===

impl Column {
    /// A column on a server that may serve another one too.
    pub(crate) fn new(api: Api, kind: WorkerKind, python: &Python) -> Self {
        let path = match kind {
            WorkerKind::Python => python.bin().join("prefect").display().to_string(),
            WorkerKind::Ours => PROGRAM.to_owned(),
        };
        let program = Program::new(&path)
            .with("PREFECT_API_URL", api.url())
            .with("PREFECT_WORKER_QUERY_SECONDS", QUERY)
            .with("VIRTUAL_ENV", python.root().display().to_string())
            .with("PATH", python.path());
        let code = program.directory("code");
        copy_flows(&code);
        let mut names = Names::default();
        names.hide(code.display().to_string(), "CODE");
        names.hide(api.url(), "API-URL");
        Self {
            api,
            kind,
            program,
            code,
            names: RefCell::new(names),
            workers: RefCell::default(),
        }
    }

    /// What stands for what in this column.
    pub(crate) fn names(&self) -> Names {
        self.names.borrow().clone()
    }

    /// Makes a work pool; its name.
    pub(crate) fn make_pool(&self, role: &str) -> String {
        let name = self.name_of(&format!("pool-{role}"));
        let pool = self
            .api
            .post("/work_pools/", &json!({"name": name, "type": "process"}));
        self.hide(text(&pool, "id"), "POOL-ID");
        self.hide(&name, "POOL");
        name
    }

    /// Makes a deployment of a flow in `flows`; its id.
    pub(crate) fn deploy(&self, flow: &str, pool: &str, queue: &str) -> String {
        let more = json!({
            "work_queue_name": queue,
            "entrypoint": format!("{flow}.py:{flow}"),
            "path": ".",
            "pull_steps": [
                {"prefect.deployments.steps.set_working_directory": {"directory": self.code}},
            ],
            "parameter_openapi_schema": {"type": "object", "properties": {}},
        });
        self.make_deployment(flow, &format!("{flow}-{queue}"), pool, more)
    }

    /// Makes a deployment of a command, with no flow behind it; its id.
    pub(crate) fn deploy_command(&self, command: &str, pool: &str) -> String {
        let more = json!({"job_variables": {"command": command}});
        self.make_deployment("command", "command", pool, more)
    }

    fn make_deployment(&self, flow: &str, name: &str, pool: &str, mut body: Value) -> String {
        let flow = self.api.post("/flows/", &json!({"name": flow}));
        let name = self.name_of(&format!("deployment-{name}"));
        body["name"] = json!(name);
        body["flow_id"] = flow["id"].clone();
        body["work_pool_name"] = json!(pool);
        body["tags"] = json!(["matrix"]);
        let deployment = self.api.post("/deployments/", &body);
        let id = text(&deployment, "id");
        self.hide(text(&flow, "id"), "FLOW-ID");
        self.hide(id, "DEPLOYMENT-ID");
        self.hide(&name, "DEPLOYMENT");
        id.to_owned()
    }

    /// Makes a flow run, due now; its id.
    pub(crate) fn make_run(&self, deployment: &str, name: &str, parameters: &Value) -> String {
        let run = self.api.post(
            &format!("/deployments/{deployment}/create_flow_run"),
            &json!({"name": self.name_of(name), "parameters": parameters, "tags": ["seen"]}),
        );
        text(&run, "id").to_owned()
    }

    /// Makes a flow run that was due a while ago; its id.
    pub(crate) fn make_overdue_run(&self, deployment: &str, name: &str, time: &str) -> String {
        let run = self.api.post(
            &format!("/deployments/{deployment}/create_flow_run"),
            &json!({
                "name": self.name_of(name),
                "tags": ["seen"],
                "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": time}},
            }),
        );
        text(&run, "id").to_owned()
    }

    /// Starts a worker of the column's kind on a pool.
    pub(crate) fn start_worker(&self, pool: &str, role: &'static str, more: &[&str]) {
        let name = self.worker_name(role);
        let slug = name.to_lowercase().replace(' ', "-");
        self.hide(&slug, "WORKER-SLUG");
        self.hide(&name, "WORKER");
        let mut arguments = match self.kind {
            WorkerKind::Python => vec!["worker", "start"],
            WorkerKind::Ours => vec![],
        };
        arguments.extend(["--pool", pool, "--type", "process", "--name", &name]);
        arguments.extend(more);
        let worker = self.program.start(&arguments);
        self.workers.borrow_mut().insert(role, worker);
    }

    /// Ends a worker the way a service manager does.
    pub(crate) fn stop_worker(&self, role: &str) {
        let worker = self.workers.borrow_mut().remove(role);
        let mut worker = worker.expect("it was started in that role");
        assert!(!worker.has_ended(), "it ended early: {}", worker.stderr());
        worker.signal(Signal::SIGTERM);
        let finished = worker.finish();
        assert_eq!(finished.code(), 0, "{finished}");
    }

    /// Waits until a pool's workers are this one, and the server has heard of it.
    #[track_caller]
    pub(crate) fn wait_until_shown(&self, pool: &str, role: &str) {
        let wanted = json!([self.worker_name(role), "ONLINE"]);
        wait::until("the server shows the worker", BOUND, || {
            let path = format!("/work_pools/{pool}/workers/filter");
            let workers = self.api.post(&path, &json!({}));
            let shown = items(&workers).iter();
            let shown: Vec<_> = shown
                .map(|worker| json!([worker["name"], worker["status"]]))
                .collect();
            if shown == [wanted.clone()] {
                Ok(())
            } else {
                Err(format!("{workers:#}{}", self.workers_say()))
            }
        });
    }

    /// The resource that stands for a worker in events.
    pub(crate) fn worker_resource(&self, role: &str) -> String {
        let slug = self.worker_name(role).to_lowercase().replace(' ', "-");
        format!("prefect.worker.process.{slug}")
    }

    /// Waits until a flow run is as wanted.
    #[track_caller]
    pub(crate) fn wait_for(&self, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, BOUND, || {
            let run = self.api.get(&format!("/flow_runs/{id}"));
            if is_so(&run) {
                Ok(run)
            } else {
                Err(format!("{run:#}{}", self.workers_say()))
            }
        })
    }

    /// Waits until flow runs have ended, whatever the end.
    #[track_caller]
    pub(crate) fn wait_for_ends(&self, ids: &[&str]) {
        for id in ids {
            self.wait_for(id, "the flow run has ended", has_ended);
        }
    }

    /// Waits until nobody has anything more to say about flow runs that have ended: their processes have, and the worker
    /// has noticed, where that can be seen.
    #[track_caller]
    pub(crate) fn wait_for_rest(&self, ids: &[&str]) {
        let pid_of = |id: &&str| {
            let answer = self
                .api
                .send("GET", &format!("/flow_runs/{id}"), None)
                .ok()?;
            answer.body["infrastructure_pid"]
                .as_str()
                .map(str::to_owned)
        };
        let executed: Vec<(&str, String)> = ids
            .iter()
            .filter_map(|id| Some((*id, pid_of(id)?)))
            .collect();
        wait::until("the processes have ended", BOUND, || {
            let alive = executed
                .iter()
                .find(|(_, pid)| Path::new("/proc").join(pid).exists());
            alive.map_or(Ok(()), |(id, pid)| Err(format!("{id}: {pid}")))
        });
        wait::holds(NOTICE, || {
            executed.iter().all(|(id, _)| {
                let events = find_events(self.api, &format!("prefect.flow-run.{id}"));
                events.is_none_or(|events| {
                    let mut names = events.iter().map(|event| text(event, "event"));
                    names.any(|name| name == "prefect.worker.executed-flow-run")
                })
            })
        });
    }

    /// Waits until a flow has left its mark.
    #[track_caller]
    pub(crate) fn wait_for_mark(&self, mark: &str) {
        let file = self.code.join(mark);
        wait::until("the flow left its mark", BOUND, || {
            if file.exists() { Ok(()) } else { Err(mark) }
        });
    }

    /// Asks for the end of a flow run, as `prefect flow-run cancel` does.
    pub(crate) fn cancel(&self, id: &str) {
        self.set_state(id, &json!({"type": "CANCELLING", "name": "Cancelling"}));
    }

    /// Proposes a state, unforced.
    pub(crate) fn set_state(&self, id: &str, state: &Value) {
        self.api.post(
            &format!("/flow_runs/{id}/set_state"),
            &json!({"state": state, "force": false}),
        );
    }

    /// What the workers that run have said so far.
    fn workers_say(&self) -> String {
        let workers = self.workers.borrow();
        let said = workers.iter().map(|(role, worker)| {
            format!(
                "\n--- worker {role}\n{}{}",
                worker.stdout(),
                worker.stderr()
            )
        });
        said.collect()
    }

    fn hide(&self, name: &str, placeholder: &str) {
        self.names.borrow_mut().hide(name, placeholder);
    }

    /// Names differ between the columns of a server.
    fn name_of(&self, what: &str) -> String {
        match self.kind {
            WorkerKind::Python => format!("py-{what}"),
            WorkerKind::Ours => format!("rs-{what}"),
        }
    }

    fn worker_name(&self, role: &str) -> String {
        self.name_of(&format!("Taker {role}"))
    }
}

// === functions ===

/// Whether a flow run is in a final state.
pub(crate) fn has_ended(run: &Value) -> bool {
    ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"].contains(&text(run, "state_type"))
}

/// The flows made for the matrix, and two examples.
fn copy_flows(to: &Path) {
    let copy = |from: &Path, name: &str| {
        fs::copy(from, to.join(name)).expect("the test's own directory is writable");
    };
    let flows = root().join("tests/live/flows");
    for entry in fs::read_dir(flows).expect("the flows of the matrix are there") {
        let file = entry
            .expect("a directory that was opened can be listed")
            .path();
        // A Python that ran one of them here has left its cache.
        if file.extension().is_some_and(|extension| extension == "py") {
            let name = file.file_name().and_then(|name| name.to_str());
            copy(&file, name.expect("we named the flows"));
        }
    }
    let examples = root().join("examples");
    copy(&examples.join("flow/greet.py"), "greet.py");
    copy(&examples.join("fails/stock.py"), "check.py");
}
