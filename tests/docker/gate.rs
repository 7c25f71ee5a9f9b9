//! A way to the engine on which a worker is killed: at a chosen request about one flow run, before the engine hears it or before the worker hears the answer.

use std::{
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// The way, for as long as the process lives.
pub(crate) struct Gate {
    _folder: TempDir,
    socket: PathBuf,
    plot: Arc<Mutex<Plot>>,
}

/// Who dies when.
#[derive(Default)]
struct Plot {
    /// The worker, once it is known. Requests wait for that.
    victim: Option<u32>,
    /// What a request has in it that is about the flow run: its id, and the ids of its containers.
    about: Vec<String>,
    /// Each request about the flow run is two points: on its way out and on its way back.
    point: usize,
    passed: usize,
    /// What the worker was about to do when it died.
    died: Option<String>,
}

/// The longest piece that is carried at once.
const PIECE: usize = 64 * 1024;

// === impl Gate ===

impl Gate {
    /// A way to the engine at `host` on which the worker dies at a point, counted from zero.
    pub(crate) fn open(host: &str, flow_run: &str, point: usize) -> Self {
        let engine = host
            .strip_prefix("unix://")
            .expect("a socket of this machine");
        let folder = tempfile::tempdir().expect("there is room");
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("the socket is free");
        let plot = Plot {
            about: vec![flow_run.to_owned()],
            point,
            ..Plot::default()
        };
        let gate = Self {
            _folder: folder,
            socket,
            plot: Arc::new(Mutex::new(plot)),
        };
        let (plot, engine) = (Arc::clone(&gate.plot), PathBuf::from(engine));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                connect(client, &engine, &plot);
            }
        });
        gate
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Says who is to die.
    pub(crate) fn aim(&self, pid: u32) {
        lock(&self.plot).victim = Some(pid);
    }

    /// What the worker was about to do when it died; none: it lives, for all this knows.
    pub(crate) fn died_at(&self) -> Option<String> {
        lock(&self.plot).died.clone()
    }
}

// === impl Plot ===

impl Plot {
    /// Whether this is where the worker dies. It is dead then.
    fn dies(&mut self, way: &str, request: &str) -> bool {
        let here = self.passed == self.point;
        self.passed += 1;
        let Some(pid) = self.victim.filter(|_| here) else {
            return false;
        };
        let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
        kill(pid, Signal::SIGKILL).expect("it lives");
        self.died = Some(format!("{way} {request}"));
        true
    }
}

// === functions ===

fn lock(plot: &Mutex<Plot>) -> MutexGuard<'_, Plot> {
    plot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(client: UnixStream, engine: &Path, plot: &Arc<Mutex<Plot>>) {
    let Ok(server) = UnixStream::connect(engine) else {
        return;
    };
    let same = |stream: &UnixStream| stream.try_clone().expect("a socket has more than one hold");
    let pair = (same(&client), same(&server));
    // The request that is answered next, if it is about the flow run.
    let open = Arc::new(Mutex::new(None));
    let (asked, answered) = (Arc::clone(&open), open);
    let (plot_out, plot_back) = (Arc::clone(plot), Arc::clone(plot));
    thread::spawn(move || carry_requests((client, server), &plot_out, &asked));
    thread::spawn(move || carry_answers(pair, &plot_back, &answered));
}

fn carry_requests(
    (mut client, mut server): (UnixStream, UnixStream),
    plot: &Mutex<Plot>,
    open: &Mutex<Option<String>>,
) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = client.read(&mut piece) {
        if let Some(request) = request_in(&piece[..length], plot) {
            if lock(plot).dies("before", &request) {
                break;
            }
            *open.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
        }
        if server.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    end(&client, &server);
}

fn carry_answers(
    (mut client, mut server): (UnixStream, UnixStream),
    plot: &Mutex<Plot>,
    open: &Mutex<Option<String>>,
) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = server.read(&mut piece) {
        let answered = open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(request) = answered {
            learn(&piece[..length], &request, plot);
            if lock(plot).dies("after", &request) {
                break;
            }
        }
        if client.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    end(&client, &server);
}

fn end(client: &UnixStream, server: &UnixStream) {
    // The other direction may have ended them already.
    client.shutdown(Shutdown::Both).ok();
    server.shutdown(Shutdown::Both).ok();
}

/// The request that begins here, if one does and it is about the flow run. The client sends no second one before the first was answered.
fn request_in(piece: &[u8], plot: &Mutex<Plot>) -> Option<String> {
    let text = String::from_utf8_lossy(piece);
    let line = text.lines().next()?;
    let request = line.strip_suffix(" HTTP/1.1")?;
    let (_, path) = request.split_once(' ')?;
    let what = path.split('?').next()?.split("/containers/").nth(1)?;
    let plot = lock(plot);
    let is_ours = |id: &String| path.contains(id.as_str());
    // What makes a container names the flow run in its body, of which the beginning has come as well or comes next. Nothing else is made here.
    let ours = what == "create" || plot.about.iter().any(is_ours);
    ours.then(|| {
        plot.about
            .iter()
            .fold(what.to_owned(), |what, id| what.replace(id, "*"))
    })
}

/// Remembers the id of the container that was made.
fn learn(answer: &[u8], request: &str, plot: &Mutex<Plot>) {
    if request != "create" {
        return;
    }
    let text = String::from_utf8_lossy(answer);
    let id = text
        .split_once("\"Id\":\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(id, _)| id.to_owned());
    lock(plot).about.extend(id);
}

/// Removes what the engine cannot reach any more.
impl Drop for Gate {
    fn drop(&mut self) {
        fs::remove_file(&self.socket).ok();
    }
}
