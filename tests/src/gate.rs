//! A way to an engine on which a worker is killed: at a chosen request about one flow run, before the engine hears it or before the worker hears the answer.
//!
//! It carries bytes and knows no engine: which requests are about the flow run is for [`Rules`] to say.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Knows the requests that are about the flow run.
pub trait Rules: Send + 'static {
    /// The request that begins here, by a short name, if one does and it is about the flow run. A client sends no second one on a connection before
    /// the first was answered.
    fn find_request(&mut self, piece: &str) -> Option<String>;

    /// Takes in the beginning of the answer to a request.
    fn hear(&mut self, request: &str, answer: &str) {
        let _: (&str, &str) = (request, answer);
    }
}

/// A connection.
pub trait Wire: Read + Write + Send + Sized + 'static {
    /// Another hold of the same connection.
    fn again(&self) -> Self;

    /// Ends it in both directions.
    fn end(&self);
}

/// The gate, for as long as the process lives.
#[derive(Clone, Debug)]
pub struct Gate {
    plot: Arc<Mutex<Plot>>,
}

/// Who dies when.
#[derive(Debug)]
struct Plot {
    /// The worker, once it is known.
    victim: Option<u32>,
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
    /// A gate before the engine at a socket; the worker dies at a point, counted from zero.
    ///
    /// # Panics
    ///
    /// When there can be no socket at `at`.
    pub fn before_socket(at: &Path, engine: &Path, point: usize, rules: impl Rules) -> Self {
        let listener = UnixListener::bind(at).expect("the socket is free");
        let engine = PathBuf::from(engine);
        let accept = move || listener.accept().ok().map(|(client, _)| client);
        Self::open(
            accept,
            move || UnixStream::connect(&engine).ok(),
            point,
            rules,
        )
    }

    /// A gate before what listens at an address, with its own address.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub fn before_address(
        engine: SocketAddr,
        point: usize,
        rules: impl Rules,
    ) -> (Self, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let accept = move || listener.accept().ok().map(|(client, _)| client);
        let gate = Self::open(
            accept,
            move || TcpStream::connect(engine).ok(),
            point,
            rules,
        );
        (gate, address)
    }

    fn open<W: Wire>(
        mut accept: impl FnMut() -> Option<W> + Send + 'static,
        connect: impl Fn() -> Option<W> + Send + 'static,
        point: usize,
        rules: impl Rules,
    ) -> Self {
        let plot = Arc::new(Mutex::new(Plot {
            victim: None,
            point,
            passed: 0,
            died: None,
        }));
        let gate = Self {
            plot: Arc::clone(&plot),
        };
        let rules = Arc::new(Mutex::new(rules));
        thread::spawn(move || {
            while let Some(client) = accept() {
                if let Some(server) = connect() {
                    carry(client, server, &plot, &rules);
                }
            }
        });
        gate
    }

    /// Says who is to die.
    pub fn aim(&self, pid: u32) {
        lock(&self.plot).victim = Some(pid);
    }

    /// What the worker was about to do when it died; none: it lives, for all this knows.
    pub fn died_at(&self) -> Option<String> {
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

// === impl Wire ===

impl Wire for UnixStream {
    fn again(&self) -> Self {
        self.try_clone().expect("a socket has more than one hold")
    }

    fn end(&self) {
        // The other direction may have ended it already.
        self.shutdown(Shutdown::Both).ok();
    }
}

impl Wire for TcpStream {
    fn again(&self) -> Self {
        self.try_clone().expect("a socket has more than one hold")
    }

    fn end(&self) {
        // The other direction may have ended it already.
        self.shutdown(Shutdown::Both).ok();
    }
}

// === functions ===

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn carry<W: Wire>(client: W, server: W, plot: &Arc<Mutex<Plot>>, rules: &Arc<Mutex<impl Rules>>) {
    let pair = (client.again(), server.again());
    // The request that is answered next, if it is about the flow run.
    let open = Arc::new(Mutex::new(None));
    let (asked, answered) = (Arc::clone(&open), open);
    let (plot_out, plot_back) = (Arc::clone(plot), Arc::clone(plot));
    let (rules_out, rules_back) = (Arc::clone(rules), Arc::clone(rules));
    thread::spawn(move || carry_requests((client, server), &plot_out, &rules_out, &asked));
    thread::spawn(move || carry_answers(pair, &plot_back, &rules_back, &answered));
}

fn carry_requests<W: Wire>(
    (mut client, mut server): (W, W),
    plot: &Mutex<Plot>,
    rules: &Mutex<impl Rules>,
    open: &Mutex<Option<String>>,
) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = client.read(&mut piece) {
        let text = String::from_utf8_lossy(&piece[..length]);
        let found = lock(rules).find_request(&text);
        if let Some(request) = found {
            if lock(plot).dies("before", &request) {
                break;
            }
            *lock(open) = Some(request);
        }
        if server.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    client.end();
    server.end();
}

fn carry_answers<W: Wire>(
    (mut client, mut server): (W, W),
    plot: &Mutex<Plot>,
    rules: &Mutex<impl Rules>,
    open: &Mutex<Option<String>>,
) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = server.read(&mut piece) {
        let answered = lock(open).take();
        if let Some(request) = answered {
            let text = String::from_utf8_lossy(&piece[..length]);
            lock(rules).hear(&request, &text);
            if lock(plot).dies("after", &request) {
                break;
            }
        }
        if client.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    client.end();
    server.end();
}
