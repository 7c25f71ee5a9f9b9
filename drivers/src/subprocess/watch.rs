//! Sees jobs end: one thread, one inotify instance and one sweep for all jobs of a driver.
//!
//! Exit files arrive by rename into one directory, so that one watch tells of all of them. A shim that is killed writes none: the sweep finds
//! its lock free and writes the exit file in its stead. Where inotify cannot be had, the sweep does it all, more often.

use std::{
    collections::HashSet,
    io,
    os::fd::AsFd as _,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures::stream::{self, BoxStream, StreamExt as _};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
    unistd::{AccessFlags, access},
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    Shared, act,
    jobs_dir::{Part, Parts, is_not_understood, parse_name},
    run_blocking,
};
use crate::{
    driver::{Health, JobEvent, Owned},
    job::{Owner, Phase, RunKey},
};

/// How often locks are looked at, and everything else that nobody tells us about.
const SWEEP: Duration = Duration::from_secs(2);
/// The same where inotify cannot be had.
const BLIND_SWEEP: Duration = Duration::from_millis(200);
/// How long news of output is gathered: a job that writes all the time does not keep us busy.
const OUTPUT_PAUSE: Duration = Duration::from_millis(20);
/// How long a listing of jobs is waited for before it is asked for again.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(1);

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    /// To a job of somebody.
    Event { owner: Owner, event: JobEvent },
    /// To the directory: it cannot be watched, and why.
    Lost(String),
}

/// The thread that watches. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    /// The thread waits on the other end, which reports when this one is closed.
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

struct Eyes {
    shared: Arc<Shared>,
    stop: io::PipeReader,
    /// One for exit files and one for output, or why there are none. They are apart so that much output delays no end.
    inotify: Result<(Inotify, Inotify), Errno>,
    /// Jobs of which there is no more to tell: their end was told, or their record is not understood.
    told: HashSet<RunKey>,
    next_sweep: Instant,
    next_output: Instant,
}

// === impl Watcher ===

impl Watcher {
    /// Begins to watch. What ends after this returned is told to who listens.
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let inotify = open_inotify(&shared);
        Self::start_with(shared, inotify)
    }

    /// The same as if inotify could not be had.
    #[cfg(test)]
    pub(super) fn start_blind(shared: Arc<Shared>) -> io::Result<Self> {
        Self::start_with(shared, Err(Errno::EMFILE))
    }

    fn start_with(
        shared: Arc<Shared>,
        inotify: Result<(Inotify, Inotify), Errno>,
    ) -> io::Result<Self> {
        let (stop, closed) = io::pipe()?;
        let mut eyes = Eyes::open(shared, stop, inotify)?;
        let span = tracing::Span::current();
        let thread = thread::Builder::new()
            .name("jobs-watch".to_owned())
            .spawn(move || span.in_scope(|| eyes.run()))?;
        Ok(Self {
            stop: Some(closed),
            thread: Some(thread),
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, it said so.
            thread.join().ok();
        }
    }
}

// === impl Eyes ===

impl Eyes {
    fn open(
        shared: Arc<Shared>,
        stop: io::PipeReader,
        inotify: Result<(Inotify, Inotify), Errno>,
    ) -> io::Result<Self> {
        if let Err(errno) = inotify {
            tracing::warn!(%errno, "inotify is not to be had; ends of jobs are noticed later");
        }
        let jobs = shared.jobs.list()?;
        let told = jobs
            .into_iter()
            .filter(|(_, parts)| parts.exit)
            .map(|(key, _)| key)
            .collect();
        let now = Instant::now();
        Ok(Self {
            shared,
            stop,
            inotify,
            told,
            next_sweep: now,
            next_output: now,
        })
    }

    fn run(&mut self) {
        loop {
            let now = Instant::now();
            if now >= self.next_sweep {
                self.sweep();
                let pause = if self.inotify.is_ok() {
                    SWEEP
                } else {
                    BLIND_SWEEP
                };
                self.next_sweep = now + pause;
            }
            if !self.wait() {
                return;
            }
            self.read_exits();
            if now >= self.next_output && self.read_output() {
                self.next_output = now + OUTPUT_PAUSE;
            }
        }
    }

    /// Waits for the next thing to do; whether there is any, and not the end.
    fn wait(&self) -> bool {
        let now = Instant::now();
        let mut waited = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        let mut until = self.next_sweep;
        if let Ok((exits, output)) = &self.inotify {
            waited.push(PollFd::new(exits.as_fd(), PollFlags::POLLIN));
            if now >= self.next_output {
                waited.push(PollFd::new(output.as_fd(), PollFlags::POLLIN));
            } else {
                until = until.min(self.next_output);
            }
        }
        let left = until.saturating_duration_since(now) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        // Interrupted or not: the caller looks at everything.
        poll(&mut waited, timeout).ok();
        !waited[0].any().unwrap_or_default()
    }

    fn read_exits(&mut self) {
        let Ok((exits, _)) = &self.inotify else {
            return;
        };
        let mut ended = Vec::new();
        // One read after the other until there is nothing: each takes in a page of events.
        while let Ok(events) = exits.read_events() {
            for event in events {
                if event
                    .mask
                    .intersects(AddWatchFlags::IN_Q_OVERFLOW | AddWatchFlags::IN_IGNORED)
                {
                    self.next_sweep = Instant::now();
                }
                let name = event.name.as_ref().and_then(|name| name.to_str());
                if let Some((key, Part::Exit)) = name.and_then(parse_name) {
                    ended.push(key);
                }
            }
        }
        for key in ended {
            self.tell_end(key);
        }
    }

    /// Wakes who follows the output that grew; whether any did.
    fn read_output(&self) -> bool {
        let Ok((_, output)) = &self.inotify else {
            self.shared.wake_all();
            return false;
        };
        let mut grown = HashSet::new();
        let mut overflow = false;
        // Bounded, as writers may be faster than we are: the rest is for the next time.
        for _ in 0..256 {
            let Ok(events) = output.read_events() else {
                break;
            };
            for event in events {
                overflow |= event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                let name = event.name.as_ref().and_then(|name| name.to_str());
                if let Some((key, Part::Stdout | Part::Stderr)) = name.and_then(parse_name) {
                    grown.insert(key);
                }
            }
        }
        if overflow {
            self.shared.wake_all();
        } else {
            for key in grown.iter().copied() {
                self.shared.wake(key);
            }
        }
        !grown.is_empty() || overflow
    }

    /// Looks at what nobody tells us about.
    fn sweep(&mut self) {
        self.shared.reap_children();
        let jobs = match self.shared.jobs.list() {
            Ok(jobs) => jobs,
            Err(error) => return self.be_down(&error.to_string()),
        };
        match access(
            self.shared.jobs.path(),
            AccessFlags::W_OK | AccessFlags::X_OK,
        ) {
            Ok(()) => self.be_up(),
            Err(errno) => self.be_down(errno.desc()),
        }
        self.told.retain(|key| jobs.contains_key(key));
        for (&key, parts) in &jobs {
            match *parts {
                Parts {
                    record: true,
                    exit: true,
                } => self.tell_end(key),
                // Its record was removed, and then the worker died.
                Parts { record: false, .. } => {
                    self.shared.jobs.remove(key).ok();
                }
                Parts {
                    record: true,
                    exit: false,
                } => self.settle(key),
            }
        }
    }

    fn settle(&mut self, key: RunKey) {
        match act::settle(&self.shared, key) {
            // It stays as it is, so that it is said once and not at every sweep.
            Err(error) if is_not_understood(&error) && !self.told.insert(key) => {}
            Err(error) => tracing::warn!(job = %key, %error, "could not look after a job"),
            Ok(_) => {}
        }
        if self.inotify.is_err()
            && self
                .shared
                .jobs
                .find_exit(key)
                .is_ok_and(|exit| exit.is_some())
        {
            self.tell_end(key);
        }
    }

    /// Tells the end of a job once. Where it could not be read, the next sweep tries again.
    fn tell_end(&mut self, key: RunKey) {
        if self.told.insert(key) && !tell_end(&self.shared, key) {
            self.told.remove(&key);
        }
    }

    fn be_up(&mut self) {
        let was_down = self
            .shared
            .health
            .send_if_modified(|health| std::mem::replace(health, Health::Up) != Health::Up);
        // The directory may have been made anew, and the watches have gone with the old one.
        if was_down {
            self.inotify = open_inotify(&self.shared);
        }
    }

    fn be_down(&self, reason: &str) {
        let reason = format!("{}: {reason}", self.shared.jobs.path().display());
        let down = Health::Down {
            reason: reason.clone(),
        };
        let mut was_up = false;
        self.shared.health.send_if_modified(|health| {
            was_up = *health == Health::Up;
            std::mem::replace(health, down.clone()) != down
        });
        if was_up {
            self.shared.notices.send(Notice::Lost(reason)).ok();
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Tells that a job runs, unless its end was quicker.
    pub(super) fn tell_started(&self, key: RunKey, owner: &Owner) {
        let mut starting = self.starting();
        if starting.remove(&key) {
            self.tell(key, owner, Phase::Running);
        }
    }

    /// Tells that a job ended, and before it that it ran.
    fn tell_ended(&self, key: RunKey, owner: &Owner, phase: Phase) {
        let mut starting = self.starting();
        if starting.remove(&key) {
            self.tell(key, owner, Phase::Running);
        }
        self.tell(key, owner, phase);
    }

    fn tell(&self, key: RunKey, owner: &Owner, phase: Phase) {
        let owner = owner.clone();
        let event = JobEvent::Changed { key, phase };
        // Nobody need listen.
        self.notices.send(Notice::Event { owner, event }).ok();
    }
}

fn open_inotify(shared: &Shared) -> Result<(Inotify, Inotify), Errno> {
    let open = |mask| {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(shared.jobs.path(), mask)?;
        Ok::<_, Errno>(inotify)
    };
    Ok((
        open(AddWatchFlags::IN_MOVED_TO)?,
        open(AddWatchFlags::IN_MODIFY)?,
    ))
}

/// Reads how a job ended and tells it. Whether that is done with: it is not when the files could not be read at present.
fn tell_end(shared: &Shared, key: RunKey) -> bool {
    let done = match act::look(shared, key) {
        Ok(Some(act::Seen {
            owner,
            handle: _,
            phase: phase @ Phase::Exited(_),
            started: _,
        })) => {
            shared.tell_ended(key, &owner, phase);
            true
        }
        // It was removed in the meantime.
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(job = %key, %error, "could not read how a job ended");
            is_not_understood(&error)
        }
    };
    shared.wake(key);
    done
}

/// An event stream.
struct Events {
    shared: Arc<Shared>,
    owner: Owner,
    notices: Receiver<Notice>,
    /// The jobs that had ended in the last snapshot; none before there was one. That they started may have been on its way.
    ended: Option<HashSet<RunKey>>,
}

/// The events of one owner, as the contract of [`crate::Driver::events`] has them.
pub(super) fn events(shared: Arc<Shared>, owner: Owner) -> BoxStream<'static, JobEvent> {
    // From here on nothing is missed; what also is in the snapshot is told twice.
    let notices = shared.notices.subscribe();
    let events = Events {
        shared,
        owner,
        notices,
        ended: None,
    };
    stream::unfold(events, |mut events| async move {
        let event = events.next().await;
        Some((event, events))
    })
    .boxed()
}

// === impl Events ===

impl Events {
    async fn next(&mut self) -> JobEvent {
        let Some(ended) = &self.ended else {
            let owned = self.snapshot().await;
            let ended = owned
                .iter()
                .filter(|owned| matches!(owned.phase, Phase::Exited(_)));
            self.ended = Some(ended.map(|owned| owned.handle.key).collect());
            return JobEvent::Snapshot(owned);
        };
        let reason = loop {
            match self.notices.recv().await {
                Ok(Notice::Event { owner, event }) if owner == self.owner => match event {
                    JobEvent::Changed {
                        key,
                        phase: Phase::Running,
                    } if ended.contains(&key) => {}
                    event => return event,
                },
                Ok(Notice::Event { .. }) => {}
                Ok(Notice::Lost(reason)) => break reason,
                Err(RecvError::Lagged(missed)) => {
                    break format!("{missed} events came faster than they were taken");
                }
                // We hold a sender, so that this cannot be.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        };
        self.ended = None;
        JobEvent::WatchLost { reason }
    }

    /// Everything there is; tried until it can be listed.
    async fn snapshot(&self) -> Vec<Owned> {
        loop {
            let (shared, owner) = (Arc::clone(&self.shared), self.owner.clone());
            match run_blocking(move || act::list_owned(&shared, &owner)).await {
                Ok(jobs) => return jobs,
                Err(error) => tracing::warn!(%error, "could not list jobs; trying again"),
            }
            tokio::time::sleep(SNAPSHOT_RETRY).await;
        }
    }
}

#[cfg(test)]
mod tests;
