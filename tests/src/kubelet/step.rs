//! What may become of a pod, and what a kubelet would say of it.

use jiff::Timestamp;
use serde_json::{Value, json};

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// No node has room for it.
    Unschedulable,
    /// Its container waits for this reason.
    Wait(String),
    /// Its container runs.
    Start,
    /// Its container ends with this code.
    Exit(i32),
    /// Its container took too much memory.
    OutOfMemory,
    /// It fails for this reason, whatever its container does.
    Fail(String),
    /// Its status is exactly this.
    Status(Value),
}

// === impl Step ===

impl Step {
    /// What the command of a pod's container says: `unschedulable`, `wait:REASON`, `start`, `exit:CODE`, `oom`, `fail:REASON`, in a row. Other words say
    /// nothing.
    pub fn read(pod: &Value) -> Vec<Self> {
        let container = &pod["spec"]["containers"][0];
        let words = ["command", "args"].iter();
        let words = words.flat_map(|field| container[field].as_array().into_iter().flatten());
        let steps = words.filter_map(|word| Self::of_word(word.as_str()?));
        let steps: Vec<Self> = steps.collect();
        if steps.is_empty() {
            return vec![Self::Start, Self::Exit(0)];
        }
        steps
    }

    fn of_word(word: &str) -> Option<Self> {
        let (word, more) = word.split_once(':').unwrap_or((word, ""));
        Some(match word {
            "unschedulable" => Self::Unschedulable,
            "wait" => Self::Wait(more.to_owned()),
            "start" => Self::Start,
            "exit" => Self::Exit(more.parse().ok()?),
            "oom" => Self::OutOfMemory,
            "fail" => Self::Fail(more.to_owned()),
            _ => return None,
        })
    }

    /// Whether a pod that comes to this has no node.
    pub(super) fn is_unplaced(&self) -> bool {
        matches!(self, Self::Unschedulable)
    }

    /// Whether nothing follows.
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Self::Exit(_) | Self::OutOfMemory | Self::Fail(_))
    }

    /// What a kubelet would say.
    pub(super) fn status(&self, pod: &Value) -> Value {
        let now = Timestamp::now();
        // A cluster's clock has no parts of a second.
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let placed = json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": now}]);
        let running = json!({"running": {"startedAt": now}});
        let ended = |code: i32, reason: &str| json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now}});
        let (phase, state) = match self {
            Self::Status(status) => return status.clone(),
            Self::Unschedulable => {
                return json!({"phase": "Pending", "conditions": [{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": "0/3 nodes are available: 3 Insufficient cpu.", "lastTransitionTime": now,
                }]});
            }
            Self::Wait(reason) => {
                let message = "so it is played";
                (
                    "Pending",
                    json!({"waiting": {"reason": reason, "message": message}}),
                )
            }
            Self::Start => ("Running", running),
            Self::Exit(0) => ("Succeeded", ended(0, "Completed")),
            Self::Exit(code) => ("Failed", ended(*code, "Error")),
            Self::OutOfMemory => ("Failed", ended(137, "OOMKilled")),
            Self::Fail(reason) => {
                return json!({
                    "phase": "Failed", "reason": reason, "message": "so it is played", "conditions": placed,
                });
            }
        };
        let container = &pod["spec"]["containers"][0];
        json!({
            "phase": phase,
            "startTime": now,
            "conditions": placed,
            "containerStatuses": [{
                "name": container["name"], "image": container["image"], "imageID": "", "ready": phase == "Running",
                "restartCount": 0, "state": state,
            }],
        })
    }
}

#[cfg(test)]
mod tests;
