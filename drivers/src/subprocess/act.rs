//! Starts, stops and removes jobs. Everything here may wait for the file system, and belongs on a thread that may.

use std::{
    fs::{File, OpenOptions},
    io::{self, PipeReader, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::SigmaskHow,
};

use worker_config::DriverKind;

use super::{
    ENGINE, HANDLE_VERSION, Shared, cgroup,
    jobs_dir::{
        End, ExitRecord, Intended, Part, Record, Started, is_locked, is_not_understood, try_lock,
    },
    plan::Plan,
    program::{look_up, prepare_directory},
    shim::{self, Failure, Order, request::stop_line, tree},
    unavailable,
};
use crate::{
    driver::{DriverError, Owned, Recovered, Submitted},
    job::{Handle, Intent, Outcome, Owner, Phase, RunKey, StopRequest},
};

/// How long a shim may take to report the start of its job. It takes milliseconds; a machine that swaps takes longer.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long `destroy` waits for the end it forced.
const END_LIMIT: Duration = Duration::from_secs(15);
/// The same once everything of a job was killed: no longer than a machine that swaps needs.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How often something is looked at that nobody tells us about.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How often leftovers of a killed shim are looked for: each time there may be new ones.
const LEFTOVER_ROUNDS: usize = 20;

/// Starts an attempt, or finds it.
pub(super) fn submit(shared: &Shared, plan: &Plan) -> Result<Submitted, DriverError> {
    let record = match take_lock(shared, plan.key)? {
        Lock::Taken(record) => record,
        Lock::Exists(handle) => return Ok(Submitted::Adopted(handle)),
    };
    shared.starting().insert(plan.key);
    match start(shared, plan, record) {
        Ok(started) => {
            shared.tell_started(plan.key, &plan.owner);
            Ok(Submitted::Created(handle(plan.key, Some(started))))
        }
        Err(error) => {
            shared.starting().remove(&plan.key);
            // The error counts; what is left in the way shows at the next attempt.
            if let Err(left) = destroy(shared, plan.key) {
                tracing::warn!(job = %plan.key, error = %left, "could not clean up after a failed start");
            }
            Err(error)
        }
    }
}

/// What became of an attempt.
pub(super) fn recover(shared: &Shared, key: RunKey) -> Result<Recovered, DriverError> {
    Ok(
        match look(shared, key).map_err(|error| at(shared, key, &error))? {
            None => Recovered::Missing,
            Some(Seen {
                phase: Phase::Exited(outcome),
                ..
            }) => Recovered::Exited(outcome),
            Some(_) => Recovered::Running,
        },
    )
}

/// Everything of an owner. A record that is not understood says of no owner, and hides none of the others.
pub(super) fn list_owned(shared: &Shared, owner: &Owner) -> Result<Vec<Owned>, DriverError> {
    let jobs = shared
        .jobs
        .list()
        .map_err(|error| unavailable(shared.jobs.path(), &error))?;
    let mut found = Vec::new();
    for key in jobs.into_keys() {
        match look(shared, key) {
            Ok(Some(seen)) if seen.owner == *owner => {
                found.push(Owned {
                    handle: seen.handle,
                    phase: seen.phase,
                });
            }
            Ok(_) => {}
            Err(error) if is_not_understood(&error) => {
                tracing::warn!(job = %key, %error, "left a job alone");
            }
            Err(error) => return Err(at(shared, key, &error)),
        }
    }
    Ok(found)
}

/// Asks the shim of a job to end it.
pub(super) fn stop(shared: &Shared, key: RunKey, request: StopRequest) -> Result<(), DriverError> {
    let path = shared.jobs.file(key, Part::Requests);
    let pipe = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path);
    match pipe {
        Ok(mut pipe) => match pipe.write_all(stop_line(request).as_bytes()) {
            // The shim went between the two.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent.map_err(|error| unavailable(&path, &error)),
        },
        // No reader, or no pipe: there is no shim any more, or it has come to its end.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match shared.jobs.find_record(key)
        {
            Ok(_) => Ok(()),
            Err(error) => Err(unavailable(&path, &error)),
        },
        Err(error) => Err(unavailable(&path, &error)),
    }
}

/// Removes an attempt, and ends it first if it lives.
pub(super) fn destroy(shared: &Shared, key: RunKey) -> Result<(), DriverError> {
    let failed = |error: io::Error| at(shared, key, &error);
    if let Some(mut record) = shared.jobs.find_record(key).map_err(failed)? {
        // What is not understood is left alone, also while it runs.
        Record::read(&mut record).map_err(failed)?;
        take_from_shim(shared, key, &record)?;
        let known = Record::read(&mut record).map_err(failed)?;
        let ended = shared.jobs.find_exit(key).is_ok_and(|exit| exit.is_some());
        if !ended {
            kill_leftovers(key);
        }
        if let Some(group) = known.and_then(|known| known.intended.cgroup) {
            end_group(&group).map_err(|error| unavailable(&group, &error))?;
        }
        shared.jobs.remove(key).map_err(failed)?;
    } else {
        shared.jobs.remove(key).map_err(failed)?;
    }
    reap(shared, key);
    shared.wake(key);
    Ok(())
}

/// Collects a shim that has let go of its lock: it is at its last breath. If it was not, the watcher's sweep collects it.
fn reap(shared: &Shared, key: RunKey) {
    let limit = Instant::now() + Duration::from_secs(1);
    let Some(mut child) = shared.children().remove(&key) else {
        return;
    };
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= limit {
            shared.children().insert(key, child);
            return;
        }
        pause(Duration::from_millis(1));
    }
}

/// What is there of one attempt.
pub(super) struct Seen {
    pub(super) owner: Owner,
    pub(super) handle: Handle,
    pub(super) phase: Phase,
    /// Whether it was started, and so has files for its output.
    pub(super) started: bool,
}

/// Looks at the files of one attempt. A record without a line says that nothing was started yet, and counts as nothing.
pub(super) fn look(shared: &Shared, key: RunKey) -> io::Result<Option<Seen>> {
    let Some(mut file) = shared.jobs.find_record(key)? else {
        return Ok(None);
    };
    // In this order: a shim writes the exit file before it lets go of the lock.
    let alive = is_locked(&file)?;
    let exit = shared.jobs.find_exit(key)?;
    let Some(record) = Record::read(&mut file)? else {
        return Ok(None);
    };
    let phase = match (exit, record.started) {
        (Some(exit), _) => Phase::Exited(exit.outcome()),
        (None, Some(_)) if alive => Phase::Running,
        (None, None) if alive => Phase::Pending(None),
        (None, Some(_)) => match settle(shared, key)? {
            Some(exit) => Phase::Exited(exit.outcome()),
            // Somebody else is just ending what is left.
            None => Phase::Running,
        },
        (None, None) => Phase::Exited(Outcome::NeverStarted {
            reason: "the worker that should have started it was ended while it did".to_owned(),
        }),
    };
    Ok(Some(Seen {
        owner: record.intended.owner,
        handle: handle(key, record.started),
        phase,
        started: record.started.is_some(),
    }))
}

/// The end of a job whose shim went without a word: ends what it left, and writes down that it is lost, so that from then on it has ended like
/// any other. Nothing while anybody holds the lock, nor for a job that never started: that may be submitted again.
pub(super) fn settle(shared: &Shared, key: RunKey) -> io::Result<Option<ExitRecord>> {
    let Some(mut file) = shared.jobs.find_record(key)? else {
        return Ok(None);
    };
    if !try_lock(&file)? || !shared.jobs.is_current(key, &file)? {
        return Ok(None);
    }
    if let Some(exit) = shared.jobs.find_exit(key)? {
        return Ok(Some(exit));
    }
    let Some(Record {
        intended,
        started: Some(started),
    }) = Record::read(&mut file)?
    else {
        return Ok(None);
    };
    kill_leftovers(key);
    if let Some(group) = &intended.cgroup {
        end_group(group)?;
    }
    let exit = lost(started);
    // On a full disk, say, it is told again by whoever looks next.
    if let Err(error) = shared.jobs.write_exit(key, &exit) {
        tracing::warn!(job = %key, %error, "could not write down that a job is lost");
    }
    Ok(Some(exit))
}

/// The answer to the question who may start an attempt.
enum Lock {
    /// We may. The lock is held by this open file.
    Taken(File),
    /// Nobody may: it was started already.
    Exists(Handle),
}

/// Takes the lock of an attempt that was never started, or finds the one that was.
fn take_lock(shared: &Shared, key: RunKey) -> Result<Lock, DriverError> {
    let failed = |error: io::Error| at(shared, key, &error);
    let limit = Instant::now() + START_LIMIT;
    loop {
        let mut record = shared.jobs.open_record(key).map_err(failed)?;
        let taken = try_lock(&record).map_err(failed)?;
        if taken && !shared.jobs.is_current(key, &record).map_err(failed)? {
            continue;
        }
        match Record::read(&mut record).map_err(failed)? {
            Some(Record {
                started: Some(started),
                ..
            }) => return Ok(Lock::Exists(handle(key, Some(started)))),
            before if taken => {
                // A worker died while it started this, or while it removed it. Whatever came of it goes, and we start anew.
                if before.is_some() {
                    kill_leftovers(key);
                    record.set_len(0).map_err(failed)?;
                }
                shared.jobs.remove_exit(key).map_err(failed)?;
                return Ok(Lock::Taken(record));
            }
            // Somebody is just starting it.
            _ if Instant::now() >= limit => {
                return Err(DriverError::Unavailable {
                    engine: ENGINE,
                    reason: format!("job {key} is being started, and is not done with it"),
                });
            }
            _ => pause(LOOK_AGAIN),
        }
    }
}

/// Starts a shim, and the job under it. The lock goes over to the shim.
fn start(shared: &Shared, plan: &Plan, mut record: File) -> Result<Started, DriverError> {
    let failed = |error: io::Error| at(shared, plan.key, &error);
    prepare_directory(&plan.directory)?;
    let (program, arguments) = look_up(plan)?;
    let cgroup = shared
        .cgroups
        .as_ref()
        .map(|delegated| delegated.group(plan.key));
    let intended = Intended::new(
        plan.owner.clone(),
        cgroup.as_ref().map(|group| group.path.clone()),
    );
    let mut line = serde_json::to_vec(&intended).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    record.write_all(&line).map_err(failed)?;
    let order = Order {
        program,
        arguments,
        directory: plan.directory.path().to_owned(),
        control_session: plan.control_session,
        hooks: plan.hooks,
        cgroup,
    };
    let order_text = serde_json::to_string(&order).map_err(|error| failed(error.into()))?;
    let (report, reporter) = io::pipe().map_err(failed)?;
    let mut command = Command::new(&shared.settings.shim);
    command
        .arg0("worker")
        .arg(shim::ARGUMENT)
        .arg(shared.jobs.path())
        .arg(plan.key.to_string())
        .env_clear()
        .envs(&plan.environment.0)
        .env(tree::JOB_VARIABLE, plan.key.to_string())
        .env(shim::ORDER_VARIABLE, order_text)
        .current_dir("/")
        .stdin(Stdio::from(record))
        .stdout(Stdio::from(reporter))
        .stderr(Stdio::null());
    let child =
        spawn_unsignalled(&mut command).map_err(|error| shim_failed(shared, plan, &error))?;
    // The command holds our copies of the lock and of the reporting end.
    drop(command);
    shared.children().insert(plan.key, child);
    let line = read_report(report).map_err(failed)?;
    if let Some((pid, shim)) = shim::parse_started(&line) {
        return Ok(Started { pid, shim });
    }
    Err(match Failure::parse(&line) {
        Some(failure) => start_failed(plan, &order.arguments, &failure),
        None => DriverError::Unavailable {
            engine: ENGINE,
            reason: format!(
                "the shim of job {} ended before it started anything",
                plan.key
            ),
        },
    })
}

/// Starts a process that begins with the shim's signals blocked: until it is a session of its own, an interrupt from the worker's
/// terminal would end it.
fn spawn_unsignalled(command: &mut Command) -> io::Result<std::process::Child> {
    let before = shim::shim_signals().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let child = command.spawn();
    before.thread_set_mask()?;
    child
}

/// Reads the line that a shim reports, up to its end or the shim's.
fn read_report(mut report: PipeReader) -> io::Result<String> {
    let limit = Instant::now() + START_LIMIT;
    let mut line = Vec::new();
    let mut chunk = [0; 512];
    while !line.ends_with(b"\n") {
        let left = limit.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut waited = [PollFd::new(report.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waited, timeout) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Err(nix::errno::Errno::EINTR) => continue,
            result => result?,
        };
        match report.read(&mut chunk)? {
            0 => break,
            length => line.extend_from_slice(&chunk[..length]),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Waits until the shim has let go of the lock, and makes it.
fn take_from_shim(shared: &Shared, key: RunKey, record: &File) -> Result<(), DriverError> {
    let force = StopRequest {
        intent: Intent::Plain,
        grace: Duration::ZERO,
    };
    let taken = |limit| {
        let taken = wait_for_lock(record, limit);
        taken.map_err(|error| at(shared, key, &error))
    };
    if taken(Duration::ZERO)? {
        return Ok(());
    }
    // Whether it was heard shows in what follows.
    stop(shared, key, force).ok();
    if taken(END_LIMIT)? {
        return Ok(());
    }
    // A shim that does not answer was suspended, say. Its job goes, and it goes with it.
    kill_leftovers(key);
    if taken(KILL_LIMIT)? {
        return Ok(());
    }
    Err(DriverError::Unavailable {
        engine: ENGINE,
        reason: format!("job {key} does not end"),
    })
}

/// Takes the lock as soon as it is free; whether that was in time.
fn wait_for_lock(record: &File, limit: Duration) -> io::Result<bool> {
    let limit = Instant::now() + limit;
    while !try_lock(record)? {
        if Instant::now() >= limit {
            return Ok(false);
        }
        pause(LOOK_AGAIN);
    }
    Ok(true)
}

/// What a shim said about a program that does not start, by what can be done about it.
fn start_failed(plan: &Plan, arguments: &[String], failure: &Failure) -> DriverError {
    let Failure { step, errno } = failure;
    let error = io::Error::from_raw_os_error(*errno);
    let program = arguments.first().map_or("", String::as_str);
    let invalid = |reason: &str| DriverError::Invalid {
        field: format!("program {program}"),
        reason: reason.to_owned(),
    };
    match *errno {
        // It was there a moment ago, so this is what its first line or its loader names.
        libc::ENOENT => DriverError::NotFound {
            what: format!("the interpreter of program {program}"),
        },
        libc::ENOEXEC => {
            invalid("it is neither a binary for this machine nor a script with an interpreter")
        }
        libc::EACCES | libc::EPERM => invalid("the system does not let it be executed"),
        libc::E2BIG => invalid("its arguments and environment are larger than the system allows"),
        libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC => {
            DriverError::Quota {
                reason: format!("{step} of job {}: {error}", plan.key),
                retry_after: None,
            }
        }
        _ => DriverError::Unavailable {
            engine: ENGINE,
            reason: format!("{step} of job {}: {error}", plan.key),
        },
    }
}

/// Why not even the shim was started.
fn shim_failed(shared: &Shared, plan: &Plan, error: &io::Error) -> DriverError {
    match error.raw_os_error() {
        Some(errno @ (libc::E2BIG | libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE)) => {
            let step = "starting the shim".to_owned();
            start_failed(
                plan,
                std::slice::from_ref(&plan.name),
                &Failure { step, errno },
            )
        }
        _ if error.kind() == io::ErrorKind::InvalidInput => DriverError::Invalid {
            field: "env".to_owned(),
            reason: "a name or a value holds a null character".to_owned(),
        },
        _ => unavailable(&shared.settings.shim, error),
    }
}

/// What finds a job again: its key. The rest is for people, and empty as long as nothing was started.
fn handle(key: RunKey, started: Option<Started>) -> Handle {
    Handle {
        kind: DriverKind::Process,
        version: HANDLE_VERSION,
        key,
        infrastructure_id: started.map_or_else(String::new, |started| started.pid.to_string()),
        state: serde_json::json!({ "shim": started.map(|started| started.shim) }),
    }
}

/// The end of a job nobody saw end.
fn lost(started: Started) -> ExitRecord {
    ExitRecord::new(End::Lost(format!(
        "the process that watched over pid {} was ended from outside, and the job with it",
        started.pid
    )))
}

/// Ends everything that carries the mark of a job, as far as it can be found.
fn kill_leftovers(key: RunKey) {
    let mark = key.to_string();
    for _ in 0..LEFTOVER_ROUNDS {
        match tree::kill_marked(&mark) {
            0 => return,
            count => {
                tracing::warn!(job = %key, count, "ended processes of a job that had lost its shim");
            }
        }
        pause(LOOK_AGAIN);
    }
}

/// Ends and removes a group.
fn end_group(group: &Path) -> io::Result<()> {
    let limit = Instant::now() + Duration::from_secs(2);
    loop {
        cgroup::kill(group)?;
        match cgroup::remove(group) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < limit => {
                pause(LOOK_AGAIN);
            }
            result => return result,
        }
    }
}

/// An error of the file system on a job's files.
fn at(shared: &Shared, key: RunKey, error: &io::Error) -> DriverError {
    unavailable(&shared.jobs.file(key, Part::Record), error)
}

fn pause(time: Duration) {
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    // Waiting for nothing; to be interrupted is as good.
    poll(&mut [], timeout).ok();
}
