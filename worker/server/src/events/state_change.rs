//! The event of a flow run that enters a state, in the shape the reference gives it (3.8.8).

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::{Value, json};
use worker_api::types::{FlowRunId, State, StateType};

use super::{Event, in_role, resource};
use crate::orchestration::Stored;

/// What an event about a flow run speaks of.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) flow_run_id: FlowRunId,
    pub(crate) flow_run_name: String,
    pub(crate) flow: Option<(String, String)>,
    pub(crate) deployment: Option<(String, String)>,
    pub(crate) work_queue: Option<(String, String)>,
    pub(crate) work_pool: Option<(String, String)>,
    pub(crate) work_pool_type: Option<String>,
    /// Those of the flow run, its flow and its deployment.
    pub(crate) tags: BTreeSet<String>,
}

/// An event is said to follow another only when it is this close to it (3.8.8).
const TIGHT: SignedDuration = SignedDuration::from_mins(5);
/// Nobody needs a longer message in an event.
const MESSAGE: usize = 4096;

impl Event {
    /// A flow run entered a state.
    pub(crate) fn state_change(subject: &Subject, from: Option<&State>, stored: &Stored) -> Self {
        let to = &stored.state;
        let name = format!(
            "prefect.flow-run.{}",
            to.name.as_deref().unwrap_or_default()
        );
        let follows = from.filter(|from| to.timestamp.duration_since(from.timestamp) < TIGHT);
        let own = json!({
            "prefect.resource.id": format!("prefect.flow-run.{}", subject.flow_run_id),
            "prefect.resource.name": subject.flow_run_name,
            "prefect.run-count": stored.record.run_count.to_string(),
            "prefect.state-message": message(to).unwrap_or_default(),
            "prefect.state-name": to.name.as_deref().unwrap_or_default(),
            "prefect.state-timestamp": to.timestamp.to_string(),
            "prefect.state-type": to.kind,
        });
        let payload = json!({
            "intended": { "from": from.map(|from| &from.kind), "to": to.kind },
            "initial_state": from.map(brief),
            "validated_state": brief(to),
        });
        // The state's id is the event's, so that both have one order.
        Self::about(name, to.timestamp, own, subject.related(), payload)
            .identified(to.id.0)
            .following(follows.map(|from| from.id.0))
    }
}

// === impl Subject ===

impl Subject {
    fn related(&self) -> Vec<Value> {
        let kinds = [
            ("flow", &self.flow),
            ("deployment", &self.deployment),
            ("work-queue", &self.work_queue),
            ("work-pool", &self.work_pool),
        ];
        let named = kinds.into_iter().filter_map(|(kind, named)| {
            let (id, name) = named.as_ref()?;
            let mut entry = in_role(resource(kind, id, name), kind);
            if let (Some(pool_type), "work-pool") = (&self.work_pool_type, kind) {
                entry["prefect.work-pool.type"] = pool_type.clone().into();
            }
            Some(entry)
        });
        let tags = self.tags.iter().map(|tag| {
            json!({ "prefect.resource.id": format!("prefect.tag.{tag}"), "prefect.resource.role": "tag" })
        });
        named.chain(tags).collect()
    }
}

/// What an event tells of a state; what it has not, is left out.
fn brief(state: &State) -> Value {
    let mut brief = json!({ "type": state.kind });
    if let Some(name) = &state.name {
        brief["name"] = name.clone().into();
    }
    if let Some(message) = message(state).filter(|message| !message.is_empty()) {
        brief["message"] = message.into();
    }
    if state.kind == StateType::Paused {
        let suspended =
            state.state_details.other.get("pause_reschedule") == Some(&Value::Bool(true));
        brief["pause_reschedule"] = suspended.to_string().into();
    }
    brief
}

fn message(state: &State) -> Option<&str> {
    let text = state.message.as_deref()?;
    Some(shorten(text, MESSAGE))
}

/// At most so many bytes of a text, cut between characters.
fn shorten(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

#[cfg(test)]
mod tests;
