//! What a Job and its pods say, as a phase of a job. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::batch::v1::{Job, JobSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::json;

use worker_config::DriverKind;

use super::{
    HANDLE_VERSION,
    plan::{JOB_LABEL, JOB_LIMIT, POD_LIMIT, PROGRAM},
    pod::{Main, PodSeen},
};
use crate::job::{Handle, Outcome, Phase, RunKey};

/// What is kept of a Job.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, as the cluster tells it"
)]
pub(super) struct JobSeen {
    pub(super) key: RunKey,
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) made: Timestamp,
    /// From when on the time counts that it may take to start. None: it was suspended, and nothing has gone on yet.
    starts_from: Option<Timestamp>,
    /// What runs in it.
    pub(super) program: String,
    /// Whether somebody has asked for it to be deleted.
    pub(super) leaves: bool,
    end: Option<JobEnd>,
    /// Whether a pod that failed is followed by another.
    pub(super) tries_again: bool,
    /// Whether no pod is made until somebody says so: a queue for Jobs, as a rule.
    pub(super) is_suspended: bool,
    /// Whether the cluster removes it by itself some time after its end.
    pub(super) is_kept: bool,
    pub(super) pod_limit: Duration,
    pub(super) job_limit: Option<Duration>,
}

/// How a Job ended, as its controller says.
#[derive(Clone, Debug, PartialEq)]
enum JobEnd {
    Complete,
    Failed { reason: String, message: String },
}

/// Why we have ended a job.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum EndedByUs {
    /// We were asked to.
    Asked {
        /// Whether it was seen to have begun by then.
        had_begun: bool,
    },
    /// It took too long, to start or altogether.
    GivenUp(Outcome),
}

/// How long a pod may take to start for which nobody says (3.8.8).
const POD_LIMIT_DEFAULT: Duration = Duration::from_mins(1);

/// How long a pod may wait for a place, at the least: an autoscaler may be making one. A machine takes minutes to come.
const PLACE_LIMIT: Duration = Duration::from_mins(15);

/// How long a pod may take to become what it should without any sign of trouble, at the least: a big image takes its time.
const QUIET_LIMIT: Duration = Duration::from_mins(30);

/// How long what cannot heal by itself is watched, so that what the cluster says of it can arrive.
const HOPELESS_LIMIT: Duration = Duration::from_secs(3);

/// What a shell and a container runtime add to the number of a signal that ended a process.
const SIGNALLED: i32 = 128;

/// The highest signal number there is.
const LAST_SIGNAL: i32 = 64;

// === impl JobSeen ===

impl JobSeen {
    /// Takes in a Job. None: it is not one of ours.
    pub(super) fn of(job: &Job) -> Option<Self> {
        let metadata = &job.metadata;
        let spec = job.spec.as_ref();
        let conditions = job.status.as_ref().and_then(|it| it.conditions.as_ref());
        let held = |kind: &str| {
            let mut conditions = conditions.into_iter().flatten();
            conditions.find(|one| one.type_ == kind && one.status == "True")
        };
        // What newer clusters say first (1.31), while its pods are still being ended, is what it comes to.
        let end = if held("Complete").or(held("SuccessCriteriaMet")).is_some() {
            Some(JobEnd::Complete)
        } else {
            held("Failed")
                .or(held("FailureTarget"))
                .map(|condition| JobEnd::Failed {
                    reason: condition.reason.clone().unwrap_or_default(),
                    message: condition.message.clone().unwrap_or_default(),
                })
        };
        let made = metadata.creation_timestamp.as_ref()?.0;
        // Who is resumed begins anew, says the controller a little later.
        let started = job.status.as_ref().and_then(|it| it.start_time.as_ref());
        let was_suspended = (conditions.into_iter().flatten()).any(|one| one.type_ == "Suspended");
        let starts_from = match started {
            Some(started) => Some(made.max(started.0)),
            None if was_suspended => None,
            None => Some(made),
        };
        let told = |name: &str| metadata.annotations.as_ref()?.get(name);
        let seconds = |name: &str| Some(Duration::from_secs(told(name)?.parse().ok()?));
        Some(Self {
            key: key_of(metadata)?,
            uid: metadata.uid.clone()?,
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            made,
            starts_from,
            program: told(PROGRAM).cloned().unwrap_or_default(),
            leaves: metadata.deletion_timestamp.is_some(),
            end,
            tries_again: spec.is_none_or(tries_again),
            is_suspended: spec.and_then(|spec| spec.suspend) == Some(true),
            is_kept: spec.is_some_and(|spec| spec.ttl_seconds_after_finished.is_some()),
            pod_limit: seconds(POD_LIMIT).unwrap_or(POD_LIMIT_DEFAULT),
            job_limit: seconds(JOB_LIMIT),
        })
    }

    /// Whether its controller says that it has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// What finds it again. It holds nothing but names.
    pub(super) fn handle(&self, cluster: &str) -> Handle {
        Handle {
            kind: DriverKind::Kubernetes,
            version: HANDLE_VERSION,
            key: self.key,
            infrastructure_id: format!("{}:{}", self.namespace, self.name),
            state: json!({
                "cluster": cluster,
                "namespace": self.namespace,
                "name": self.name,
                "uid": self.uid,
            }),
        }
    }
}

/// Whether a pod that failed may be followed by another: as often as is allowed, or for reasons that do not count (1.31).
fn tries_again(spec: &JobSpec) -> bool {
    let rules = spec.pod_failure_policy.iter().flat_map(|it| &it.rules);
    spec.backoff_limit != Some(0) || rules.into_iter().any(|rule| rule.action == "Ignore")
}

/// The phase of a Job that is there.
pub(super) fn phase(job: &JobSeen, pods: &[PodSeen], by_us: Option<&EndedByUs>) -> Phase {
    let newest = newest(pods);
    if let Some(EndedByUs::GivenUp(_)) = by_us {
        // It ends when it is gone: nobody is told of an end before.
        return Phase::Running;
    }
    match (&job.end, newest) {
        // Its pods are still being ended.
        (Some(JobEnd::Failed { .. }), Some(pod)) if !pod.has_ended() => Phase::Running,
        (Some(JobEnd::Failed { reason, message }), pod) => {
            Phase::Exited(failed(reason, message, pod, by_us))
        }
        // Another pod may be newer than the one that did the work.
        (Some(JobEnd::Complete), _) => Phase::Exited(by_code(0, false)),
        (None, Some(pod)) => match (of_pod(job, pod, by_us), before(pods, pod)) {
            // It is the Job that has another pod made, and a person has to know why.
            (Phase::Pending(reason), Some(before)) if by_us.is_none() => {
                let reason = reason.map_or_else(String::new, |reason| format!("; {reason}"));
                Phase::Pending(Some(format!(
                    "{before}, so its Job has begun another{reason}"
                )))
            }
            (phase, _) => phase,
        },
        (None, None) if by_us.is_some() || job.leaves => Phase::Pending(None),
        (None, None) if job.is_suspended => Phase::Pending(Some(
            "its Job is suspended until somebody resumes it".to_owned(),
        )),
        (None, None) => Phase::Pending(Some("waiting for Kubernetes to make its pod".to_owned())),
    }
}

/// The end of a job that the cluster does not have any more. `last`: its pods as they were seen last.
pub(super) fn gone(last: &[PodSeen], by_us: Option<&EndedByUs>, had_ended: bool) -> Outcome {
    let newest = newest(last);
    let code = newest.and_then(PodSeen::code);
    match by_us {
        Some(EndedByUs::GivenUp(outcome)) => outcome.clone(),
        Some(EndedByUs::Asked { had_begun }) => match code {
            Some(code) => by_code(code, true),
            None if *had_begun || newest.is_some_and(|pod| pod.main != Main::NotYet) => {
                Outcome::Lost {
                    reason: "it was asked to end and did, but Kubernetes did not record how"
                        .to_owned(),
                }
            }
            // What never ran was ended by the very asking.
            None => Outcome::Signalled {
                signal: 15,
                by_us: true,
            },
        },
        None => match (newest.and_then(PodSeen::why_ended), code) {
            (_, Some(code)) if had_ended => by_code(code, false),
            (Some(why), _) => Outcome::Lost {
                reason: format!("{why}, and its Job was deleted"),
            },
            (None, Some(code)) => Outcome::Lost {
                reason: format!(
                    "its Job was deleted by somebody else, which ended it with exit code {code}"
                ),
            },
            (None, None) => Outcome::Lost {
                reason: "its Job was deleted by somebody else".to_owned(),
            },
        },
    }
}

/// When to give up on a job as it is, and what that makes of it.
pub(super) fn limit(job: &JobSeen, pods: &[PodSeen]) -> Option<(Timestamp, Outcome)> {
    if job.leaves || job.end.is_some() {
        return None;
    }
    let whole = job.job_limit.map(|limit| {
        let reason = format!(
            "it took longer than its job_watch_timeout_seconds of {} s, so it was removed",
            limit.as_secs()
        );
        (job.made + limit, Outcome::Lost { reason })
    });
    let start = start_limit(job, newest(pods)).map(|(from, limit, why)| {
        let reason = format!("{why} after {} s", limit.as_secs());
        (from + limit, Outcome::NeverStarted { reason })
    });
    match (whole, start) {
        (Some(one), Some(other)) => Some(if one.0 <= other.0 { one } else { other }),
        (one, other) => one.or(other),
    }
}

fn start_limit(job: &JobSeen, pod: Option<&PodSeen>) -> Option<(Timestamp, Duration, String)> {
    // Who suspended it says when it goes on.
    if job.is_suspended {
        return None;
    }
    let Some(pod) = pod else {
        let why = "Kubernetes has made no pod for its Job".to_owned();
        return Some((job.starts_from?, job.pod_limit, why));
    };
    if pod.has_begun() || pod.leaves {
        return None;
    }
    let Some(placed) = pod.placed else {
        let limit = job.pod_limit.max(PLACE_LIMIT);
        let why = pod.why_waiting();
        let why = why.unwrap_or_else(|| "its pod has found no node".to_owned());
        return Some((pod.made, limit, why));
    };
    let limit = match pod.trouble() {
        Some("InvalidImageName" | "ErrImageNeverPull") => HOPELESS_LIMIT,
        Some(_) => job.pod_limit,
        // Init containers may take as long as they like.
        None if pod.is_initializing => return None,
        None => job.pod_limit.max(QUIET_LIMIT),
    };
    let why = pod.why_waiting();
    let why = why.unwrap_or_else(|| "its pod has not started".to_owned());
    Some((placed, limit, why))
}

fn of_pod(job: &JobSeen, pod: &PodSeen, by_us: Option<&EndedByUs>) -> Phase {
    let stays_failed = by_us.is_some() || !job.tries_again || pod.only_others_run();
    match &pod.main {
        Main::Ended { code: 0, .. } if !pod.leaves || by_us.is_some() => {
            Phase::Exited(pod_outcome(pod, by_us.is_some()))
        }
        // A pod that somebody deletes may be followed by another: the Job says.
        Main::Ended { .. } if stays_failed && (by_us.is_some() || !pod.leaves) => {
            Phase::Exited(pod_outcome(pod, by_us.is_some()))
        }
        Main::Ended { code, .. } if job.tries_again && !pod.leaves => {
            Phase::Pending(Some(format!(
                "its pod {} ended with exit code {code}; its Job starts another",
                pod.name
            )))
        }
        _ if pod.has_ended() && !pod.leaves && !job.tries_again => {
            Phase::Exited(pod_outcome(pod, by_us.is_some()))
        }
        _ if pod.is_gone && by_us.is_none() => Phase::Pending(Some(format!(
            "{}; its Job may start another",
            pod.why_ended().unwrap_or_default()
        ))),
        Main::Ended { .. } | Main::Running | Main::Unrecorded => Phase::Running,
        Main::NotYet => Phase::Pending(pod.why_waiting()),
    }
}

fn failed(
    reason: &str,
    message: &str,
    pod: Option<&PodSeen>,
    by_us: Option<&EndedByUs>,
) -> Outcome {
    match (reason, pod) {
        // The pod knows better.
        ("BackoffLimitExceeded" | "PodFailurePolicy" | "", Some(pod)) => {
            pod_outcome(pod, by_us.is_some())
        }
        ("BackoffLimitExceeded", None) if by_us.is_some() => gone(&[], by_us, true),
        ("BackoffLimitExceeded", None) => Outcome::Lost {
            reason: "its pod was deleted by somebody else, and its Job failed".to_owned(),
        },
        (reason, _) => Outcome::Lost {
            reason: format!("Kubernetes ended its Job: {reason}: {message}"),
        },
    }
}

/// How a job ended whose pod has.
fn pod_outcome(pod: &PodSeen, by_us: bool) -> Outcome {
    match &pod.main {
        // It had done its work.
        Main::Ended { code: 0, .. } => by_code(0, by_us),
        Main::Ended { reason, .. } if reason == "OOMKilled" => Outcome::OutOfMemory {
            limit: pod.memory_limit,
        },
        Main::Ended {
            reason, message, ..
        } if ["ContainerCannotRun", "StartError"].contains(&reason.as_str()) => {
            Outcome::NeverStarted {
                reason: format!("its container cannot run: {}", message.trim()),
            }
        }
        Main::Ended { code, .. } => match pod.why_ended() {
            Some(why) if !by_us => Outcome::Lost {
                reason: format!("{why}, which ended it with exit code {code}"),
            },
            _ => by_code(*code, by_us),
        },
        _ => match (pod.why_ended(), by_us) {
            (_, true) => {
                let by_us = EndedByUs::Asked { had_begun: false };
                gone(std::slice::from_ref(pod), Some(&by_us), true)
            }
            (Some(why), false) if pod.placed.is_some() => Outcome::Lost { reason: why },
            (Some(why), false) => Outcome::NeverStarted { reason: why },
            (None, false) => match pod.failed_init() {
                Some(failed) if pod.main == Main::NotYet => Outcome::NeverStarted {
                    reason: failed.to_owned(),
                },
                _ => Outcome::Lost {
                    reason: "its pod ended, and Kubernetes did not record how".to_owned(),
                },
            },
        },
    }
}

/// An exit code, with what it says about signals.
fn by_code(code: i32, by_us: bool) -> Outcome {
    if (SIGNALLED + 1..=SIGNALLED + LAST_SIGNAL).contains(&code) {
        return Outcome::Signalled {
            signal: code - SIGNALLED,
            by_us,
        };
    }
    Outcome::Exited {
        code,
        reported: false,
    }
}

/// What became of the pod before this one, where somebody else had a hand in it.
fn before(pods: &[PodSeen], newest: &PodSeen) -> Option<String> {
    let older = pods.iter().filter(|pod| pod.uid != newest.uid);
    older.max_by_key(|pod| pod.made)?.why_ended()
}

fn newest(pods: &[PodSeen]) -> Option<&PodSeen> {
    pods.iter().max_by_key(|pod| (pod.made, &pod.name))
}

/// The attempt that something belongs to, by its labels.
pub(super) fn key_of(metadata: &ObjectMeta) -> Option<RunKey> {
    metadata.labels.as_ref()?.get(JOB_LABEL)?.parse().ok()
}

#[cfg(test)]
mod tests;
