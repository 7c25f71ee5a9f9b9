//! The program under test, with an environment of its own.
//!
//! Nothing of the environment of whoever runs the tests reaches it but `PATH`: no `PREFECT_…` setting, no profile, no
//! state of another test. Output goes to files, so that no pipe fills up and a test can look while the program runs.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::wait;

/// The longest that a program may take which should end by itself. A loaded machine with a cold Python needs most.
const PATIENCE: Duration = Duration::from_mins(2);

/// The program and what it is given to live in: a home, a state directory, an environment.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    home: TempDir,
    environment: BTreeMap<String, String>,
    started: AtomicU32,
}

/// A run of the program that ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

/// A run of the program that has not ended, or not been looked at since. Dropping it kills it, and only it: its jobs
/// are meant to outlive it, so a test that leaves some behind gives them an end of their own.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command_line: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

// === impl Program ===

impl Program {
    /// The program at a path, most often `env!("CARGO_BIN_EXE_worker-under-test")`.
    ///
    /// # Panics
    ///
    /// When no directory can be made for it.
    pub fn new(path: &str) -> Self {
        let home = TempDir::with_prefix("worker-test-").expect("a temporary directory can be made");
        let at = |name: &str| home.path().join(name).display().to_string();
        let environment = BTreeMap::from([
            ("HOME".to_owned(), at("home")),
            ("WORKER_STATE_DIR".to_owned(), at("state")),
            ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("NO_COLOR".to_owned(), "1".to_owned()),
            ("DO_NOT_TRACK".to_owned(), "1".to_owned()),
        ]);
        fs::create_dir(home.path().join("home")).expect("a fresh directory is empty");
        Self {
            path: PathBuf::from(path),
            home,
            environment,
            started: AtomicU32::new(0),
        }
    }

    /// The same program with one more variable in its environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// The same program with a `PATH` on which nothing can be found but the named commands.
    ///
    /// # Panics
    ///
    /// When one of them is not installed.
    #[must_use]
    pub fn with_only_commands(self, names: &[&str]) -> Self {
        let bin = self.directory("bin");
        for name in names {
            std::os::unix::fs::symlink(installed(name), bin.join(name))
                .expect("each command is named once");
        }
        self.with("PATH", bin.display().to_string())
    }

    /// A directory of this program's own, made when there is none. It is removed with the program.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub fn directory(&self, name: &str) -> PathBuf {
        let directory = self.home.path().join(name);
        fs::create_dir_all(&directory)
            .expect("a directory can be made in the test's own directory");
        directory
    }

    /// Where the program keeps its state.
    pub fn state_dir(&self) -> &Path {
        Path::new(&self.environment["WORKER_STATE_DIR"])
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    ///
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Finished {
        self.start(arguments).finish()
    }

    /// Starts the program and leaves it running.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Running {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let stdout = self.home.path().join(format!("{number}.stdout"));
        let stderr = self.home.path().join(format!("{number}.stderr"));
        let create =
            |path: &Path| File::create(path).expect("the test's own directory is writable");
        let mut command = Command::new(&self.path);
        command
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(self.home.path().join("home"))
            .stdin(Stdio::null())
            .stdout(create(&stdout))
            .stderr(create(&stderr));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.path.display()));
        Running {
            child,
            command_line: format!("{command:?}"),
            stdout,
            stderr,
        }
    }
}

// === impl Finished ===

impl Finished {
    /// The exit code; -1 when a signal ended the program.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// The same, when the program ended with that exit code.
    ///
    /// # Panics
    ///
    /// When it ended otherwise, with everything it said.
    #[must_use]
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self}");
        self
    }

    /// What `--json` printed: one value, or one a line.
    ///
    /// # Panics
    ///
    /// When the output is not JSON, with the output.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        serde_json::Deserializer::from_str(&self.stdout)
            .into_iter::<Value>()
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("not JSON: {error}; {self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            status,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---"
        )
    }
}

// === impl Running ===

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(process(&self.child), signal).expect("the program is there and ours");
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    ///
    /// When it does not, with everything it said.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let status = wait::until("the program ends", PATIENCE, || {
            match self.child.try_wait().expect("a child can be waited for") {
                Some(status) => Ok(status),
                None => Err(format!(
                    "{} is running\n--- stdout\n{}\n--- stderr\n{}\n---",
                    self.command_line,
                    self.stdout(),
                    self.stderr()
                )),
            }
        });
        Finished {
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child, Duration::ZERO);
    }
}

// === functions ===

/// Ends a child: politely first when it is given some time, then by force. One that has ended already is left alone.
pub(crate) fn end(child: &mut Child, grace: Duration) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    let ended = !grace.is_zero()
        && kill(process(child), Signal::SIGTERM).is_ok()
        && wait::holds(grace, || matches!(child.try_wait(), Ok(Some(_))));
    if ended {
        return;
    }
    if child.kill().is_ok() {
        child.wait().ok();
    }
}

fn process(child: &Child) -> Pid {
    Pid::from_raw(
        child
            .id()
            .try_into()
            .expect("a process id fits into its type"),
    )
}

fn read_lossy(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Where a command is installed.
fn installed(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed"))
}

#[cfg(test)]
mod tests;
