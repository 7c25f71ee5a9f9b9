//! What a job's pods write, one after the other, resumable; and what was kept of it when its pods went.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{
    AsyncBufRead, AsyncBufReadExt as _,
    stream::{self, StreamExt as _},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};
use tokio::sync::{oneshot, watch as watch_channel};

use super::{
    Shared,
    act::{Place, ask},
    error, lock,
    log_text::LogText,
    pod::PodSeen,
    view::Glance,
};
use crate::{
    driver::{DriverError, LogStream},
    job::{Handle, LogCursor, LogLine, OutputStream},
};

/// How far before the cursor a reading begins. Entries of one moment count from the first of them.
const BEFORE: SignedDuration = SignedDuration::from_secs(5);

/// How long to wait before the cluster is asked again, at first and at last. What happens to the job is heard meanwhile.
const RETRY: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));

/// How much of the output of a job that we end is kept in case its pods go before it was read: lines from before the end, and bytes in all.
const KEPT_LINES: i64 = 5000;
const KEPT_BYTES: usize = 1 << 20;

/// How long the kept output may take to be complete once the pods are gone.
const KEPT_LIMIT: Duration = Duration::from_secs(5);

type Reader = std::pin::Pin<Box<dyn AsyncBufRead + Send>>;

/// What is kept of a job's output.
#[derive(Debug)]
pub(super) struct Tail {
    lines: Mutex<VecDeque<LogLine>>,
    is_whole: watch_channel::Sender<bool>,
}

/// Follows the output of one job.
struct Follower {
    shared: Arc<Shared>,
    handle: Handle,
    cursor: LogCursor,
    notices_rx: watch_channel::Receiver<()>,
    /// Begin so many lines before the end of a pod's log. None: at the cursor.
    tail: Option<i64>,
    /// Told once, when something can be read.
    opened_tx: Option<oneshot::Sender<()>>,
    /// The pod that is being read.
    reading: Option<(PodSeen, Reader)>,
    text: LogText,
    /// The pods that were read to their ends.
    read: HashSet<String>,
    has_ended: bool,
    /// Whether it was said that the cluster does not answer: once is enough.
    complained: bool,
    wait: Duration,
}

/// What to do next.
enum Next {
    Read(Box<PodSeen>),
    Wait,
    End,
    /// Its pods are gone.
    Gone,
}

/// The output of a job from a place on, until it has ended and everything was read.
pub(super) fn follow(shared: Arc<Shared>, handle: &Handle, from: LogCursor) -> LogStream {
    unfold(Follower::new(shared, handle, from))
}

fn unfold(follower: Follower) -> LogStream {
    stream::unfold(follower, |mut follower| async move {
        let line = follower.next().await?;
        Some((line, follower))
    })
    .boxed()
}

/// Reads along until the end of a job that we are about to end. Returns when the reading has begun, or after a while.
pub(super) async fn keep(shared: &Arc<Shared>, handle: &Handle, limit: Duration) {
    let tail = Arc::new(Tail {
        lines: Mutex::default(),
        is_whole: watch_channel::Sender::new(false),
    });
    if lock(&shared.tails).contains_key(&handle.key) {
        return;
    }
    lock(&shared.tails).insert(handle.key, Arc::clone(&tail));
    let (opened_tx, opened_rx) = oneshot::channel();
    let mut follower = Follower::new(Arc::clone(shared), handle, LogCursor::default());
    follower.tail = Some(KEPT_LINES);
    follower.opened_tx = Some(opened_tx);
    shared.spawn(async move {
        let mut lines = unfold(follower);
        let mut bytes = 0;
        while let Some(line) = lines.next().await {
            let Ok(line) = line else { continue };
            bytes += line.text.len();
            let mut kept = lock(&tail.lines);
            kept.push_back(line);
            while bytes > KEPT_BYTES {
                let Some(oldest) = kept.pop_front() else {
                    break;
                };
                bytes -= oldest.text.len();
            }
        }
        tail.is_whole.send_replace(true);
    });
    // Either it has begun, or it is not worth more time.
    drop(tokio::time::timeout(limit, opened_rx).await);
}

// === impl Follower ===

impl Follower {
    fn new(shared: Arc<Shared>, handle: &Handle, cursor: LogCursor) -> Self {
        Self {
            notices_rx: shared.notices_of(handle.key),
            shared,
            handle: handle.clone(),
            cursor,
            tail: None,
            opened_tx: None,
            reading: None,
            text: LogText::default(),
            read: HashSet::new(),
            has_ended: false,
            complained: false,
            wait: RETRY.0,
        }
    }

    async fn next(&mut self) -> Option<Result<LogLine, DriverError>> {
        loop {
            if let Some(line) = self.text.pop() {
                self.cursor = line.next;
                return Some(Ok(line));
            }
            if self.has_ended {
                return None;
            }
            let went = match self.reading.take() {
                Some((pod, reader)) => self.read_some(pod, reader).await,
                None => self.go_on().await,
            };
            match went {
                Ok(()) => {}
                Err(error) => {
                    let is_first = !std::mem::replace(&mut self.complained, true);
                    self.pause().await;
                    if is_first {
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    /// Reads what there is.
    async fn read_some(&mut self, pod: PodSeen, mut reader: Reader) -> Result<(), DriverError> {
        let bytes = match reader.fill_buf().await {
            Ok(bytes) => bytes,
            Err(error) => {
                // It may be nothing but silence. What was read of an unfinished line comes again.
                tracing::debug!(%error, "the reading of a log broke off");
                self.text = LogText::after(self.cursor);
                return Ok(());
            }
        };
        if !bytes.is_empty() {
            let count = bytes.len();
            self.text.feed(bytes);
            reader.as_mut().consume(count);
            self.reading = Some((pod, reader));
            return Ok(());
        }
        let now = find_pod(&self.shared, &self.place()?, &pod).await?;
        if now.is_none_or(|now| now.code().is_some() || now.has_ended()) {
            self.text.close();
            self.read.insert(pod.uid);
        } else {
            self.text = LogText::after(self.cursor);
            self.pause().await;
        }
        Ok(())
    }

    /// Finds out what there is to read, and begins to.
    async fn go_on(&mut self) -> Result<(), DriverError> {
        match self.choose().await? {
            Next::Read(pod) => self.open(*pod).await?,
            Next::Wait => self.pause().await,
            Next::End => self.read_kept(false).await,
            Next::Gone => self.read_kept(true).await,
        }
        self.complained = false;
        Ok(())
    }

    async fn choose(&mut self) -> Result<Next, DriverError> {
        let place = self.place()?;
        let key = self.handle.key;
        let glance = place.glance(&self.shared, key);
        if matches!(glance, Glance::Expected | Glance::Behind) && self.tail.is_none() {
            return Ok(Next::Wait);
        }
        let (seen, pods) = match glance {
            Glance::Seen(job, pods) if job.uid == place.uid => (Some(*job), pods),
            _ => (None, place.look_at_pods(&self.shared, key).await?),
        };
        let last = pods.iter().max_by_key(|pod| pod.made).cloned();
        if let Some(next) = self.choose_among(pods) {
            return Ok(next);
        }
        // Nothing follows a success.
        if last.as_ref().and_then(PodSeen::code) == Some(0) {
            return Ok(Next::End);
        }
        let job = match seen {
            Some(job) => Some(job),
            None => place.look(key).await?,
        };
        Ok(match (job, last) {
            (None, _) if self.read.is_empty() => Next::Gone,
            (None, _) => Next::End,
            (Some(job), _) if job.has_ended() && job.tries_again => {
                // Its end may have been heard of before its last pod was.
                let pods = place.look_at_pods(&self.shared, key).await?;
                self.choose_among(pods).unwrap_or(Next::End)
            }
            (Some(job), _) if job.has_ended() => Next::End,
            (Some(job), Some(_)) if !job.tries_again => Next::End,
            _ => Next::Wait,
        })
    }

    /// What to do about the first of these pods that was not read. None: they all were.
    fn choose_among(&mut self, pods: Vec<PodSeen>) -> Option<Next> {
        let unread = pods.into_iter().filter(|pod| !self.read.contains(&pod.uid));
        let next = unread.min_by_key(|pod| pod.made)?;
        let never = next.has_ended() && next.code().is_none();
        if never {
            self.read.insert(next.uid);
            return Some(Next::Wait);
        }
        // What we are about to end may have begun without the cluster knowing yet.
        let may_have_begun = self.tail.is_some() && next.placed.is_some();
        Some(if next.has_begun() || may_have_begun {
            Next::Read(Box::new(next))
        } else {
            Next::Wait
        })
    }

    async fn open(&mut self, pod: PodSeen) -> Result<(), DriverError> {
        let place = self.place()?;
        let api: Api<Pod> = Api::namespaced(place.cluster.output.clone(), &place.namespace);
        let at = i128::from(self.cursor.stdout);
        let at = Timestamp::from_nanosecond(at).unwrap_or_default();
        let is_begun = self.cursor != LogCursor::default();
        let parameters = LogParams {
            container: Some(pod.container.clone()),
            follow: true,
            timestamps: true,
            since_time: is_begun.then(|| at.checked_sub(BEFORE).ok()).flatten(),
            tail_lines: self.tail.filter(|_| !is_begun),
            ..LogParams::default()
        };
        match api.log_stream(&pod.name, &parameters).await {
            Ok(reader) => {
                if let Some(opened_tx) = self.opened_tx.take() {
                    opened_tx.send(()).ok();
                }
                self.wait = RETRY.0;
                self.text = LogText::after(self.cursor);
                self.reading = Some((pod, Box::pin(reader)));
                Ok(())
            }
            Err(error) if error::is_missing(&error) => {
                self.pause().await;
                Ok(())
            }
            // Between two states of its container a pod has no log.
            Err(error) if error::status(&error).is_some_and(|it| it.code == 400) => {
                self.pause().await;
                Ok(())
            }
            Err(error) if error::is_forbidden(&error) => {
                self.shared.complain_once(
                    "pods/log",
                    "this worker may not read the logs of pods, so output does not reach flow runs",
                );
                self.has_ended = true;
                Ok(())
            }
            Err(error) => Err(error::unavailable(&error)),
        }
    }

    /// Reads what was kept of a job that we have ended, which may be more than its pods still had.
    async fn read_kept(&mut self, is_gone: bool) {
        self.has_ended = true;
        if self.tail.is_some() {
            // This is the reading that keeps it.
            return;
        }
        let tail = lock(&self.shared.tails).get(&self.handle.key).cloned();
        let Some(tail) = tail else {
            if is_gone && self.shared.ended_by_us(self.handle.key).is_none() {
                self.say("[output was removed before it was read]");
            }
            return;
        };
        let mut is_whole_rx = tail.is_whole.subscribe();
        let whole = is_whole_rx.wait_for(|is_whole| *is_whole);
        drop(tokio::time::timeout(KEPT_LIMIT, whole).await);
        let kept = lock(&tail.lines);
        let news = kept
            .iter()
            .filter(|line| line.next.stdout > self.cursor.stdout);
        self.text.lines_again(news.cloned());
    }

    fn say(&mut self, text: &str) {
        self.text.lines_again([LogLine {
            stream: OutputStream::Stderr,
            timestamp: Timestamp::now(),
            text: text.to_owned(),
            next: self.cursor,
        }]);
    }

    /// Waits until something has happened to the job, or long enough.
    async fn pause(&mut self) {
        drop(tokio::time::timeout(self.wait, self.notices_rx.changed()).await);
        self.wait = RETRY.1.min(self.wait * 2);
    }

    fn place(&self) -> Result<Place, DriverError> {
        Place::of(&self.shared, &self.handle).ok_or_else(|| DriverError::Unavailable {
            engine: super::ENGINE,
            reason: "the job is on a cluster to which this worker knows no way".to_owned(),
        })
    }
}

// === functions ===

/// A pod as it was seen last. One that is out of sight need not be gone: the cluster says.
async fn find_pod(
    shared: &Shared,
    place: &Place,
    pod: &PodSeen,
) -> Result<Option<PodSeen>, DriverError> {
    let pods = place.pods_of(shared, pod.key).await?;
    let seen = pods.into_iter().find(|one| one.uid == pod.uid);
    if seen.is_some() {
        return Ok(seen);
    }
    let found = ask(place.pods().get_opt(&pod.name)).await?;
    let found = found.as_ref().and_then(PodSeen::of);
    Ok(found.filter(|one| one.uid == pod.uid))
}

#[cfg(test)]
mod tests;
