//! A way to the engine on which a worker is killed at a chosen request about one flow run.

use std::path::Path;

use tempfile::TempDir;
use worker_tests::gate::{self, Rules};

/// The way, for as long as this lives.
pub(crate) struct Gate {
    folder: TempDir,
    gate: gate::Gate,
}

/// What a request has in it that is about the flow run: its id, and the ids of its containers.
struct About(Vec<String>);

/// The name of its socket.
const SOCKET: &str = "engine.sock";

// === impl Gate ===

impl Gate {
    /// A way to the engine at `host` on which the worker dies at a point, counted from zero.
    pub(crate) fn open(host: &str, flow_run: &str, point: usize) -> Self {
        let engine = host
            .strip_prefix("unix://")
            .expect("a socket of this machine");
        let folder = tempfile::tempdir().expect("there is room");
        let about = About(vec![flow_run.to_owned()]);
        let at = folder.path().join(SOCKET);
        let gate = gate::Gate::before_socket(&at, Path::new(engine), point, about);
        Self { folder, gate }
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join(SOCKET).display())
    }

    /// Says who is to die.
    pub(crate) fn aim(&self, pid: u32) {
        self.gate.aim(pid);
    }

    /// What the worker was about to do when it died; none: it lives, for all this knows.
    pub(crate) fn died_at(&self) -> Option<String> {
        self.gate.died_at()
    }
}

// === impl About ===

impl Rules for About {
    fn find_request(&mut self, piece: &str) -> Option<String> {
        let line = piece.lines().next()?;
        let request = line.strip_suffix(" HTTP/1.1")?;
        let (_, path) = request.split_once(' ')?;
        let what = path.split('?').next()?.split("/containers/").nth(1)?;
        let is_ours = |id: &String| path.contains(id.as_str());
        // What makes a container names the flow run in its body, of which the beginning has come as well or comes next. Nothing else is made here.
        let ours = what == "create" || self.0.iter().any(is_ours);
        let ids = self.0.iter();
        ours.then(|| ids.fold(what.to_owned(), |what, id| what.replace(id, "*")))
    }

    /// Remembers the id of the container that was made.
    fn hear(&mut self, request: &str, answer: &str) {
        if request == "create" {
            let id = answer.split_once("\"Id\":\"");
            let id = id.and_then(|(_, rest)| rest.split_once('"'));
            self.0.extend(id.map(|(id, _)| id.to_owned()));
        }
    }
}
