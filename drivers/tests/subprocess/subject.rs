//! The subprocess driver as the suite sees it: jobs that behave, in shell.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tempfile::TempDir;

use worker_drivers::{
    Driver, Environment, Job, OutputStream, Owner, Program, RunKey,
    conformance::{Behaviour, MISSING_PROGRAM, Subject},
    subprocess::{Cgroups, SubprocessDriver, SubprocessOptions},
};

/// The subprocess driver, with a jobs directory that can be taken away.
pub(crate) struct SubprocessSubject {
    root: TempDir,
}

/// The control group that jobs get theirs in, where the machine has one to give: with it the same tests run in groups.
const CGROUP_VARIABLE: &str = "WORKER_TEST_CGROUP";

/// A process that belongs to a job.
pub(crate) struct Process {
    pub(crate) pid: i32,
    line: String,
}

// === impl Process ===

impl Process {
    pub(crate) fn is_shim(&self) -> bool {
        self.line.contains("\0__shim\0")
    }

    /// Whether anybody who lists processes reads this.
    pub(crate) fn shows(&self, text: &str) -> bool {
        self.line.contains(text)
    }
}

// === impl SubprocessSubject ===

impl SubprocessSubject {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("there is room");
        Self { root }
    }

    pub(crate) fn options(&self) -> SubprocessOptions {
        let inherited = Environment(std::env::vars().collect());
        let mut options = SubprocessOptions::new(self.jobs_dir(), inherited);
        options.shim = PathBuf::from(env!("CARGO_BIN_EXE_job-shim"));
        options.cgroups = match std::env::var_os(CGROUP_VARIABLE) {
            Some(group) => Cgroups::Below(PathBuf::from(group)),
            None => Cgroups::Auto,
        };
        options
    }

    pub(crate) fn jobs_dir(&self) -> PathBuf {
        self.root.path().join("jobs")
    }

    fn hidden_dir(&self) -> PathBuf {
        self.root.path().join("hidden")
    }
}

#[async_trait]
impl Subject for SubprocessSubject {
    async fn driver(&self) -> Arc<dyn Driver> {
        let options = self.options();
        Arc::new(SubprocessDriver::new(options).expect("the directory can be made"))
    }

    fn job(&self, key: RunKey, owner: Owner, behaviour: &Behaviour) -> Job {
        Job {
            key,
            owner,
            name: "conformance".to_owned(),
            program: Program::Command {
                line: command(behaviour),
                engine: false,
            },
            environment: Environment::default(),
            labels: BTreeMap::new(),
            configuration: serde_json::Map::new(),
            workspace: None,
        }
    }

    async fn processes(&self, key: RunKey) -> usize {
        processes(key)
            .iter()
            .filter(|process| !process.is_shim())
            .count()
    }

    async fn set_reachable(&self, reachable: bool) {
        let (from, to) = if reachable {
            (self.hidden_dir(), self.jobs_dir())
        } else {
            (self.jobs_dir(), self.hidden_dir())
        };
        fs::rename(from, to).expect("it can be moved");
    }

    async fn traces(&self, key: RunKey) -> String {
        let mut traces = String::new();
        for entry in fs::read_dir(self.jobs_dir()).expect("it is there") {
            let path = entry.expect("it can be listed").path();
            if path.to_string_lossy().contains(&key.to_string()) {
                let is_file = fs::metadata(&path).is_ok_and(|there| there.is_file());
                let content = if is_file {
                    fs::read(&path).unwrap_or_default()
                } else {
                    Vec::new()
                };
                write!(
                    traces,
                    "{} {}",
                    path.display(),
                    String::from_utf8_lossy(&content)
                )
                .expect("it is memory");
            }
        }
        traces.extend(processes(key).into_iter().map(|process| process.line));
        traces
    }
}

/// Everything that carries the mark of a job, shims and others.
pub(crate) fn processes(key: RunKey) -> Vec<Process> {
    let mark = format!("WORKER__JOB={key}");
    let entries = fs::read_dir("/proc").expect("there is one").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        // In this order: a process that has gone meanwhile has no environment any more, and is not taken for another kind.
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut entries = environment.split(|&byte| byte == 0);
        entries
            .any(|entry| entry == mark.as_bytes())
            .then_some(Process { pid, line })
    })
    .collect()
}

/// A command that behaves like this.
fn command(behaviour: &Behaviour) -> String {
    let shell = |script: &str| format!("sh -c '{script}'");
    // The shell waits in short steps, as it deals with signals between two commands, and leaves no child behind that would count.
    let wait = "while :; do read line <&3; done";
    let fifo = |script: &str| shell(&format!("mkfifo wait; exec 3<>wait; {script}; {wait}"));
    let lines = |count: usize| {
        format!("i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo out $i; echo err $i >&2; done")
    };
    match behaviour {
        Behaviour::Exit(code) => shell(&format!("exit {code}")),
        Behaviour::Signal(signal) => shell(&format!("kill -{signal} $$")),
        Behaviour::Wait => "sleep 3600".to_owned(),
        Behaviour::WaitThenExit(code) => fifo(&format!("trap \"exit {code}\" TERM; echo ready")),
        Behaviour::IgnoreStop => fifo("trap \"\" TERM; echo ready"),
        Behaviour::WaitWithChild => shell("(trap \"\" TERM; setsid sleep 3600 &); exec sleep 3600"),
        Behaviour::LeaveChild => shell("(trap \"\" TERM; setsid sleep 3600 &); exit 0"),
        Behaviour::Write(written) => {
            shell(&written.iter().map(print).collect::<Vec<_>>().join("; "))
        }
        Behaviour::Lines(count) => shell(&lines(*count)),
        Behaviour::LinesThenWait(count) => shell(&format!("{}; exec sleep 3600", lines(*count))),
        Behaviour::LongLine(length) => shell(&format!(
            "head -c {length} /dev/zero | tr \"\\\\000\" x; echo"
        )),
        Behaviour::LastWords => fifo("trap \"echo last words; exit 0\" TERM; echo ready"),
        Behaviour::MissingProgram => MISSING_PROGRAM.to_owned(),
    }
}

fn print((stream, bytes): &(OutputStream, &'static [u8])) -> String {
    let octal: Vec<_> = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let octal = octal.concat();
    match stream {
        OutputStream::Stdout => format!("printf \"{octal}\""),
        OutputStream::Stderr => format!("printf \"{octal}\" >&2"),
    }
}
