//! A real Prefect: its Python environment, and a server of one test's own.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{http::Api, program::end, wait};

/// How long a server may take until it answers: it creates its database first, and the machine may be busy.
const START: Duration = Duration::from_mins(2);

/// How long a server may take to end before it is forced.
const GRACE: Duration = Duration::from_secs(10);

/// How often another port is tried when somebody else took the one that was free a moment ago.
const TRIES: usize = 3;

/// A Python environment with Prefect in it.
#[derive(Clone, Debug)]
pub struct Python {
    root: PathBuf,
}

/// A Prefect server that ends with the test.
#[derive(Debug)]
pub struct PrefectServer {
    child: Child,
    address: SocketAddr,
    home: TempDir,
}

// === impl Python ===

impl Python {
    /// The environment that `tests/run` made, or the one that `WORKER_TESTS_VENV` names.
    ///
    /// # Panics
    ///
    /// When there is none: a live test does not pass because it could not run.
    pub fn installed() -> Self {
        Self::at("venv", "WORKER_TESTS_VENV")
    }

    /// The same with the newest Prefect 3; `WORKER_TESTS_VENV_NEWEST` may name another.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn newest() -> Self {
        Self::at("venv-newest", "WORKER_TESTS_VENV_NEWEST")
    }

    /// The same with a Prefect of about a year ago; `WORKER_TESTS_VENV_OLDEST` may name another.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn oldest() -> Self {
        Self::at("venv-oldest", "WORKER_TESTS_VENV_OLDEST")
    }

    fn at(directory: &str, variable: &str) -> Self {
        let root = std::env::var_os(variable).map_or_else(
            || {
                Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join(".cache")
                    .join(directory)
            },
            PathBuf::from,
        );
        let python = Self { root };
        assert!(
            python.bin().join("prefect").is_file(),
            "no Prefect in {}: `tests/run` puts it there",
            python.root.display()
        );
        python
    }

    /// The directory to have as `VIRTUAL_ENV`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory to have on `PATH`.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// The `PATH` of the test with this environment in front.
    pub fn path(&self) -> String {
        format!(
            "{}:{}",
            self.bin().display(),
            std::env::var("PATH").unwrap_or_default()
        )
    }
}

// === impl PrefectServer ===

impl PrefectServer {
    /// Starts a server on a free port, with a database of its own, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not come up, with the end of its log.
    pub fn start(python: &Python) -> Self {
        let mut last = String::new();
        for _ in 0..TRIES {
            match Self::try_start(python) {
                Ok(server) => return server,
                Err(log) => last = log,
            }
        }
        panic!("no Prefect server in {TRIES} tries; its log ends:\n{last}");
    }

    /// Its API.
    pub fn api(&self) -> Api {
        Api::at(self.address)
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        log_in(&self.home)
    }

    /// One try; the log when the server ended instead of answering.
    fn try_start(python: &Python) -> Result<Self, String> {
        let home =
            TempDir::with_prefix("prefect-server-").expect("a temporary directory can be made");
        let address = free_address().expect("loopback has a free port");
        let log = File::create(home.path().join("log")).expect("a fresh directory is writable");
        // The server stays in the test's process group: whoever kills the test as a whole kills it too.
        let child = Command::new(python.bin().join("prefect"))
            .args(["server", "start", "--no-ui", "--analytics-off", "--host"])
            .args([
                &address.ip().to_string(),
                "--port",
                &address.port().to_string(),
            ])
            .env_clear()
            .env("PATH", python.path())
            .env("HOME", home.path())
            .env("PREFECT_HOME", home.path())
            .env("DO_NOT_TRACK", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file has more than one handle"))
            .stderr(log)
            .spawn()
            .expect("the prefect program can be started");
        let mut server = Self {
            child,
            address,
            home,
        };
        let up = wait::until("a Prefect server answers", START, || server.look());
        if up { Ok(server) } else { Err(server.log()) }
    }

    /// Whether it answers (true) or ended (false); what was seen otherwise.
    fn look(&mut self) -> Result<bool, String> {
        if let Ok(Some(_)) = self.child.try_wait() {
            return Ok(false);
        }
        match self.api().send("GET", "/health", None) {
            Ok(answer) if answer.status == 200 => Ok(true),
            Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
            Err(error) => Err(format!("{error}; its log ends:\n{}", self.log())),
        }
    }
}

impl Drop for PrefectServer {
    fn drop(&mut self) {
        end(&mut self.child, GRACE);
    }
}

// === functions ===

/// An address on loopback that nobody listened on a moment ago.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// The last lines of a server's log.
fn log_in(home: &TempDir) -> String {
    const LINES: usize = 30;
    let text = fs::read_to_string(home.path().join("log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
