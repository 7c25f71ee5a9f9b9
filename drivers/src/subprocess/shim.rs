//! The process between the worker and a job: this binary, executed again.
//!
//! A worker that was restarted is not the parent of its jobs and cannot wait for them, so each job has a shim that can. It is
//! its own session, so that the worker's terminal and signals do not reach it; it holds the lock that says the job lives; it ends
//! whatever the job leaves behind, and writes down how the job ended. It has one thread and no runtime, and never waits for the worker:
//! the worker may be gone at any time.
//!
//! The job's environment is the shim's own and brings the job's arguments along, so that neither is in the shim's argument list nor in a
//! file: both may hold credentials. The lock comes as standard input, and standard output is where the start is reported.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, stderr, stdin, stdout},
    os::{
        fd::{AsFd as _, RawFd},
        unix::{
            fs::OpenOptionsExt as _,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    path::PathBuf,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal, killpg},
        signalfd::{SfdFlags, SignalFd},
        stat::Mode,
    },
    unistd::{self, Pid},
};
use serde::{Deserialize, Serialize};

use self::{control::Session, request::Requests};
use super::{
    cgroup::{self, JobGroup, LimitsReached},
    jobs_dir::{End, ExitRecord, JobsDir, Part, Started},
};
use crate::job::{Intent, RunKey, StopRequest};

mod control;
mod frame;
mod hooks;
pub(super) mod request;
pub(super) mod tree;

/// The first argument that makes a shim of the binary.
pub(super) const ARGUMENT: &str = "__shim";
/// The variable that holds the [`Order`], removed before the job starts.
pub(super) const ORDER_VARIABLE: &str = "WORKER__SHIM";

/// How long an engine may take to accept an intent, as the reference waits.
const INTENT_WAIT: Duration = Duration::from_secs(1);
/// The grace of a job whose shim is asked to terminate by a signal: somebody used `kill`.
const SIGNAL_GRACE: Duration = Duration::from_secs(30);
/// How long forcing is repeated before the end is written down although something still lives: a process that may not be
/// killed, or one stuck in the kernel.
const FORCE_LIMIT: Duration = Duration::from_secs(10);
/// How often forcing is repeated.
const FORCE_PAUSE: Duration = Duration::from_millis(20);
/// By how much a job is likelier than its worker to be ended when memory runs out.
const OOM_SCORE: i32 = 200;

/// What a shim is to start, apart from the environment.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    /// The program, looked up.
    pub(super) program: PathBuf,
    /// Its arguments, with the name it is called by first.
    pub(super) arguments: Vec<String>,
    /// Where it runs.
    pub(super) directory: PathBuf,
    /// Whether Prefect's control session is offered.
    pub(super) control_session: bool,
    /// Whether the program is a Python that can run the hooks of the job's flow.
    pub(super) hooks: bool,
    pub(super) cgroup: Option<JobGroup>,
}

/// What a shim reports when it could not start a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What it was doing.
    pub(super) step: String,
    /// What the system said, as an error number.
    pub(super) errno: i32,
}

struct Shim {
    jobs: JobsDir,
    key: RunKey,
    child: Child,
    /// The process and the process group of the job.
    job: Pid,
    signals: SignalFd,
    pipe: File,
    requests: Requests,
    session: Option<Session>,
    order: Order,
    stop: Option<Stop>,
    /// As it was before the job started.
    limits_reached: LimitsReached,
}

/// A stop on its way.
#[derive(Clone, Copy)]
struct Stop {
    /// What the engine is told.
    intent: Intent,
    /// Until when the polite signal waits for the engine to accept the intent; `None` once it was sent.
    polite: Option<Instant>,
    /// When it is forced.
    force: Instant,
}

/// Runs as a shim if the arguments say so. The binary calls this before anything else.
///
/// It must be called while the process has one thread, and nothing may have been read from standard input.
pub fn run_if_shim() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == ARGUMENT).then(|| main(arguments))
}

/// A shim from its start to the end of its job. The arguments are the jobs directory and the key.
fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let directory = arguments.next().map(PathBuf::from);
    let key = arguments.next().and_then(|key| key.to_str()?.parse().ok());
    let (Some(directory), Some(key)) = (directory, key) else {
        return ExitCode::from(2);
    };
    match Shim::start(JobsDir::new(directory), key) {
        Ok(mut shim) => {
            report(&format!("started {} {}\n", shim.job, Pid::this()));
            let status = shim.supervise();
            shim.finish(status)
        }
        Err(failure) => {
            report(&format!("failed {} {}\n", failure.errno, failure.step));
            ExitCode::FAILURE
        }
    }
}

// === impl Shim ===

impl Shim {
    fn start(jobs: JobsDir, key: RunKey) -> Result<Self, Failure> {
        close_inherited();
        // The driver blocks these signals before it starts a shim, so that none can end it before it is a session of its own.
        unistd::setsid().map_err(at("making a session"))?;
        prctl::set_child_subreaper(true).map_err(at("becoming the reaper of the job"))?;
        // Only a name for people who list processes.
        prctl::set_name(c"worker-shim").ok();
        let signals = open_signals().map_err(at("taking over signals"))?;
        let order = std::env::var(ORDER_VARIABLE).unwrap_or_default();
        let order: Order = serde_json::from_str(&order).map_err(at("reading the order"))?;
        let pipe = open_pipe(&jobs, key).map_err(at("making the pipe for requests"))?;
        // Without a control session a job is stopped by signal alone.
        let session = order
            .control_session
            .then(|| Session::open().ok())
            .flatten();
        let command = command(&jobs, key, &order, session.as_ref())?;
        let limits_reached = order.cgroup.as_ref().map(JobGroup::limits_reached);
        let child = spawn(command, order.cgroup.as_ref()).map_err(at("starting the program"))?;
        let job = Pid::from_raw(child.id().cast_signed());
        let shim = Self {
            jobs,
            key,
            child,
            job,
            signals,
            pipe,
            requests: Requests::default(),
            session,
            order,
            stop: None,
            limits_reached: limits_reached.unwrap_or_default(),
        };
        shim.write_started().map_err(|error| {
            shim.force();
            at("writing the record")(error)
        })?;
        Ok(shim)
    }

    /// Adds the line about the start to the record.
    fn write_started(&self) -> io::Result<()> {
        let started = Started {
            pid: self.job.as_raw(),
            shim: Pid::this().as_raw(),
        };
        let mut line = serde_json::to_vec(&started)?;
        line.push(b'\n');
        // Standard input is the record, and open for appending.
        match unistd::write(stdin(), &line)? {
            length if length == line.len() => Ok(()),
            _ => Err(Errno::ENOSPC.into()),
        }
    }

    /// Serves requests and the control session until the job's process has ended.
    fn supervise(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            self.wait();
            self.take_signals();
            self.take_requests();
            if let Some(session) = &mut self.session {
                session.turn();
            }
            self.advance_stop(Instant::now());
        }
    }

    /// Waits until something may have happened.
    fn wait(&self) {
        let session = self.session.iter().flat_map(Session::descriptors);
        let mut waited: Vec<PollFd<'_>> = [self.signals.as_fd(), self.pipe.as_fd()]
            .into_iter()
            .chain(session)
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
            .collect();
        let stop = self
            .stop
            .map(|stop| stop.polite.unwrap_or(stop.force).min(stop.force));
        let session = self.session.as_ref().and_then(Session::deadline);
        let deadline = stop.into_iter().chain(session).min();
        // Interrupted or not: the caller looks at everything.
        poll(&mut waited, timeout_until(deadline)).ok();
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo == Signal::SIGTERM as u32 {
                self.request_stop(StopRequest {
                    intent: Intent::Plain,
                    grace: SIGNAL_GRACE,
                });
            }
            if signal.ssi_signo == Signal::SIGCHLD as u32 {
                tree::reap_orphans(Pid::this(), self.job);
            }
        }
    }

    fn take_requests(&mut self) {
        let mut chunk = [0; 256];
        while let Ok(length @ 1..) = self.pipe.read(&mut chunk) {
            for request in self.requests.push(&chunk[..length]) {
                self.request_stop(request);
            }
        }
    }

    /// Begins a stop, or hastens the one on its way.
    fn request_stop(&mut self, request: StopRequest) {
        let now = Instant::now();
        let force = now.checked_add(request.grace).unwrap_or(now + SIGNAL_GRACE);
        if let Some(stop) = &mut self.stop {
            stop.force = stop.force.min(force);
            return;
        }
        let session = self.session.as_mut();
        let told = session.is_some_and(|session| session.send(request.intent));
        let polite = if told { now + INTENT_WAIT } else { now };
        self.stop = Some(Stop {
            intent: request.intent,
            polite: Some(polite),
            force,
        });
    }

    /// Takes the steps of a stop that are due.
    fn advance_stop(&mut self, now: Instant) {
        let waiting = self.session.as_ref().is_some_and(Session::is_waiting);
        let Some(stop) = &mut self.stop else {
            return;
        };
        if stop.polite.is_some_and(|until| !waiting || now >= until) {
            stop.polite = None;
            // A job that was suspended takes the signal only when it goes on.
            killpg(self.job, Signal::SIGTERM).ok();
            killpg(self.job, Signal::SIGCONT).ok();
        }
        if now >= stop.force {
            stop.force = now + FORCE_PAUSE;
            self.force();
        }
    }

    /// Forces everything of the job to end, once.
    fn force(&self) {
        if let Some(group) = &self.order.cgroup {
            cgroup::kill(&group.path).ok();
        }
        killpg(self.job, Signal::SIGKILL).ok();
        tree::kill_descendants(Pid::this());
    }

    /// After the end of the job's process: ends what it left behind, and writes down how it ended.
    fn finish(mut self, status: io::Result<ExitStatus>) -> ExitCode {
        let stop = self.stop.map(|stop| stop.intent);
        // What the engine said last may still be on its way to us.
        if let Some(session) = &mut self.session {
            session.turn();
        }
        self.end_descendants();
        let mut exit = ExitRecord::new(match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => End::Code(code),
                (None, Some(signal)) => End::Signal(signal),
                (None, None) => End::Lost(format!("its status was not understood: {status}")),
            },
            Err(error) => End::Lost(format!("its status could not be read: {error}")),
        });
        exit.reported = self
            .session
            .as_ref()
            .is_some_and(|session| session.reported);
        exit.stopped = stop.is_some();
        if let Some(group) = &self.order.cgroup {
            exit.oom_kills = group.oom_kills();
            exit.memory_limit = group.memory_limit(&self.limits_reached);
        }
        if self.order.hooks
            && let Some(which) = hooks::called_for(&exit, stop)
        {
            // What comes of them is in the log of the flow run; its end is the same.
            self.run_hooks(which).ok();
        }
        if let Some(group) = &self.order.cgroup {
            cgroup::remove(&group.path).ok();
        }
        // There is nobody to tell when this fails, a full disk say: the lock that is let go without an exit file says the rest.
        match self.jobs.write_exit(self.key, &exit) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        }
    }

    /// Runs the hooks of the flow in place of its engine. Whoever stops the job now stops them, and they have their limit.
    fn run_hooks(&mut self, which: &str) -> io::Result<()> {
        let mut command = hooks::command(&self.order, which);
        command.process_group(0);
        self.session = None;
        self.child = spawn(command, self.order.cgroup.as_ref())?;
        self.job = Pid::from_raw(self.child.id().cast_signed());
        self.stop = Some(Stop {
            intent: Intent::Plain,
            polite: None,
            force: Instant::now() + hooks::LIMIT,
        });
        self.supervise()?;
        self.end_descendants();
        Ok(())
    }

    fn end_descendants(&self) {
        let limit = Instant::now() + FORCE_LIMIT;
        while tree::reap_all() && Instant::now() < limit {
            self.force();
            let mut waited = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            poll(
                &mut waited,
                timeout_until(Some(Instant::now() + FORCE_PAUSE)),
            )
            .ok();
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
    }
}

// === impl Failure ===

impl Failure {
    /// Reads what [`report`] wrote.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (errno, step) = line.strip_prefix("failed ")?.split_once(' ')?;
        Some(Self {
            step: step.trim_end().to_owned(),
            errno: errno.parse().ok()?,
        })
    }
}

/// Reads the report of a start: the pids of job and shim.
pub(super) fn parse_started(line: &str) -> Option<(i32, i32)> {
    let (job, shim) = line.strip_prefix("started ")?.trim_end().split_once(' ')?;
    Some((job.parse().ok()?, shim.parse().ok()?))
}

/// Tells the driver, if it still listens, and closes the line to it.
fn report(line: &str) {
    unistd::write(stdout(), line.as_bytes()).ok();
    unistd::dup2_stdout(stderr()).ok();
}

/// Closes what the worker did not mean to hand on: its own starter may have left it anything.
fn close_inherited() {
    let Ok(open) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let names = open.flatten().map(|entry| entry.file_name());
    let inherited: Vec<RawFd> = names
        .filter_map(|name| name.to_str()?.parse().ok())
        .filter(|&descriptor| descriptor > libc::STDERR_FILENO)
        .collect();
    for descriptor in inherited {
        // Nothing of this process is open yet but the listing, which is closed by now.
        unistd::close(descriptor).ok();
    }
}

/// Puts the step that failed to what the system said.
fn at<E: Into<io::Error>>(step: &str) -> impl FnOnce(E) -> Failure + '_ {
    move |error| {
        let error: io::Error = error.into();
        Failure {
            step: step.to_owned(),
            errno: error.raw_os_error().unwrap_or_default(),
        }
    }
}

/// The signals a shim takes, all of them as data.
pub(super) fn shim_signals() -> SigSet {
    [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ]
    .into_iter()
    .collect()
}

/// Blocks the signals and reads those that came before this was a session of its own.
fn open_signals() -> nix::Result<SignalFd> {
    let mask = shim_signals();
    mask.thread_set_mask()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    while signals.read_signal()?.is_some() {}
    Ok(signals)
}

/// Makes the pipe for requests. It is opened for both directions, so that it never reports a hang-up, and whoever opens it when the
/// shim is gone is told so.
fn open_pipe(jobs: &JobsDir, key: RunKey) -> io::Result<File> {
    let path = jobs.file(key, Part::Requests);
    match unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// The job's command, but for the signals and the group it is born with.
fn command(
    jobs: &JobsDir,
    key: RunKey,
    order: &Order,
    session: Option<&Session>,
) -> Result<Command, Failure> {
    let output = |part| {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(jobs.file(key, part));
        file.map(Stdio::from)
            .map_err(at("making the files for output"))
    };
    let (name, rest) = order.arguments.split_first().ok_or_else(|| Failure {
        step: "reading the arguments".to_owned(),
        errno: libc::EINVAL,
    })?;
    let mut command = Command::new(&order.program);
    command
        .arg0(name)
        .args(rest)
        .current_dir(&order.directory)
        .env_remove(ORDER_VARIABLE)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output(Part::Stdout)?)
        .stderr(output(Part::Stderr)?);
    if let Some(session) = session {
        command.envs(session.environment());
    }
    Ok(command)
}

/// Starts the job with no signal blocked, in its group, and easier to end than the worker when memory runs out.
fn spawn(mut command: Command, cgroup: Option<&JobGroup>) -> io::Result<Child> {
    let score = raise_oom_score();
    SigSet::empty().thread_set_mask()?;
    let child = match cgroup {
        Some(group) => group.spawn(&mut command),
        None => command.spawn(),
    };
    shim_signals().thread_set_mask()?;
    if let Some(score) = score {
        // The shim goes back to what it had; if it may not, it shares the job's lot.
        fs::write(OOM_SCORE_FILE, score).ok();
    }
    child
}

const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

/// What is started from here on is ended before the worker is. Gives what was.
fn raise_oom_score() -> Option<String> {
    let before = fs::read_to_string(OOM_SCORE_FILE).ok()?;
    let score: i32 = before.trim().parse().ok()?;
    let raised = (score + OOM_SCORE).min(1000);
    fs::write(OOM_SCORE_FILE, raised.to_string()).ok()?;
    Some(before)
}

/// At least a millisecond, so that a deadline in the next one is not waited for in circles.
fn timeout_until(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else {
        return PollTimeout::NONE;
    };
    let left = deadline.saturating_duration_since(Instant::now());
    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}
