//! Events: what happened, told to whoever subscribed.
//!
//! The last ones are kept in memory for subscribers that come back; nothing is stored. Who listens and who does not
//! keep up is no concern of those who publish.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use axum::extract::ws::Utf8Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use uuid::Uuid;
use worker_api::types::{FlowRunId, State};

use crate::{orchestration::Stored, store::value::parse_time};

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    occurred: Timestamp,
    /// The resource itself, then those related to it.
    resources: Vec<String>,
    /// The frame a subscriber gets. Text, because many are kept and JSON in memory is several times as large.
    frame: Utf8Bytes,
}

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
    pub(crate) tags: Vec<String>,
}

/// Where events go through.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    live: broadcast::Sender<Arc<Event>>,
    recent: Arc<Mutex<VecDeque<Arc<Event>>>>,
}

/// Which events a subscriber wants. Absent conditions do not restrict.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EventFilter {
    occurred: Option<Occurred>,
    event: Option<Names>,
    any_resource: Option<Resources>,
    resource: Option<Resources>,
    related: Option<Resources>,
    id: Option<Ids>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Occurred {
    since: Option<String>,
    until: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Names {
    name: Option<Vec<String>>,
    prefix: Option<Vec<String>>,
    exclude_name: Option<Vec<String>>,
    exclude_prefix: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    id: Option<Vec<String>>,
    id_prefix: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Ids {
    id: Option<Vec<Uuid>>,
}

/// How many events a subscriber may be behind before it loses some. A power of two, which is what the channel takes.
const BEHIND: usize = 1024;
/// How many events are kept for subscribers that come back: at about 1.5 kB each, 0.75 MB.
const KEPT: usize = 512;
/// An event is said to follow another only when it is this close to it (3.8.8).
const TIGHT: SignedDuration = SignedDuration::from_mins(5);
/// Nobody needs a longer message in an event.
const MESSAGE: usize = 4096;

// === impl Event ===

impl Event {
    /// A flow run entered a state.
    pub(crate) fn state_change(subject: &Subject, from: Option<&State>, stored: &Stored) -> Self {
        let to = &stored.state;
        let name = to.name.as_deref().unwrap_or_default();
        let message = to
            .message
            .as_deref()
            .map(|message| shorten(message, MESSAGE));
        let related = subject.related();
        let id = format!("prefect.flow-run.{}", subject.flow_run_id);
        let mut resources = vec![id.clone()];
        resources.extend(related.iter().filter_map(resource_id));
        let follows = from.filter(|from| to.timestamp.duration_since(from.timestamp) < TIGHT);
        let state = |state: &State| json!({ "type": state.kind, "name": state.name, "message": state.message.as_deref().map(|text| shorten(text, MESSAGE)) });
        let body = json!({
            "occurred": to.timestamp,
            "event": format!("prefect.flow-run.{name}"),
            "resource": {
                "prefect.resource.id": id,
                "prefect.resource.name": subject.flow_run_name,
                "prefect.run-count": stored.record.run_count.to_string(),
                "prefect.state-message": message.unwrap_or_default(),
                "prefect.state-name": name,
                "prefect.state-timestamp": to.timestamp.to_string(),
                "prefect.state-type": to.kind,
            },
            "related": related,
            "payload": {
                "intended": { "from": from.map(|from| &from.kind), "to": to.kind },
                "initial_state": from.map(state),
                "validated_state": state(to),
            },
            // The state's id is the event's, so that both have one order.
            "id": to.id,
            "follows": follows.map(|from| from.id),
            "received": to.timestamp,
        });
        Self {
            id: to.id.0,
            name: format!("prefect.flow-run.{name}"),
            occurred: to.timestamp,
            resources,
            frame: frame(&body),
        }
    }

    /// Reads an event that a client sent.
    pub(crate) fn parse(body: &Value, now: Timestamp) -> Option<Self> {
        let mut body = body.as_object()?.clone();
        let name = body.get("event")?.as_str()?.to_owned();
        let occurred = parse_time(body.get("occurred")?.as_str()?)?;
        let mut resources = vec![resource_id(body.get("resource")?)?];
        if let Some(related) = body.get("related").and_then(Value::as_array) {
            resources.extend(related.iter().filter_map(resource_id));
        }
        let id = body.get("id").and_then(Value::as_str);
        let id = id.map_or_else(|| Some(Uuid::now_v7()), |id| id.parse().ok())?;
        body.insert("id".to_owned(), id.to_string().into());
        body.insert("received".to_owned(), now.to_string().into());
        Some(Self {
            id,
            name,
            occurred,
            resources,
            frame: frame(&Value::Object(body)),
        })
    }

    /// The frame a subscriber gets.
    pub(crate) fn frame(&self) -> Utf8Bytes {
        self.frame.clone()
    }
}

// === impl Subject ===

impl Subject {
    fn related(&self) -> Vec<Value> {
        let entry = |role: &str, (id, name): &(String, String)| {
            let mut entry = Map::new();
            let id = format!("prefect.{role}.{id}");
            entry.insert("prefect.resource.id".to_owned(), id.into());
            entry.insert("prefect.resource.role".to_owned(), role.into());
            entry.insert("prefect.resource.name".to_owned(), name.clone().into());
            entry
        };
        let mut related = Vec::new();
        let kinds = [
            ("flow", &self.flow),
            ("deployment", &self.deployment),
            ("work-queue", &self.work_queue),
            ("work-pool", &self.work_pool),
        ];
        for (role, named) in kinds {
            let Some(named) = named else { continue };
            let mut entry = entry(role, named);
            if let (Some(kind), "work-pool") = (&self.work_pool_type, role) {
                entry.insert("prefect.work-pool.type".to_owned(), kind.clone().into());
            }
            related.push(Value::Object(entry));
        }
        related.extend(self.tags.iter().map(|tag| {
            json!({ "prefect.resource.id": format!("prefect.tag.{tag}"), "prefect.resource.role": "tag" })
        }));
        related
    }
}

// === impl Hub ===

impl Hub {
    /// A hub that nobody listens to yet.
    pub(crate) fn new() -> Self {
        Self {
            live: broadcast::Sender::new(BEHIND),
            recent: Arc::default(),
        }
    }

    /// Tells everyone who listens.
    pub(crate) fn publish(&self, event: Event) {
        let event = Arc::new(event);
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            if recent.len() == KEPT {
                recent.pop_front();
            }
            recent.push_back(Arc::clone(&event));
        }
        // There is nobody to hear it, which is as good as told.
        drop(self.live.send(event));
    }

    /// What comes from now on, and before that, what a filter wants of what has been.
    pub(crate) fn subscribe(
        &self,
        filter: &EventFilter,
    ) -> (broadcast::Receiver<Arc<Event>>, Vec<Arc<Event>>) {
        // Listening comes first, so that nothing falls between; what is in both is the subscriber's to notice.
        let live = self.live.subscribe();
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let backlog = recent.iter().filter(|event| filter.wants(event));
        (live, backlog.cloned().collect())
    }
}

// === impl EventFilter ===

impl EventFilter {
    /// Whether an event meets every condition.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        let own = event.resources.get(..1).unwrap_or_default();
        let related = event.resources.get(1..).unwrap_or_default();
        let any = |filter: &Option<Resources>, ids: &[String]| {
            filter.as_ref().is_none_or(|filter| filter.wants(ids))
        };
        self.occurred
            .as_ref()
            .is_none_or(|filter| filter.wants(event.occurred))
            && self
                .event
                .as_ref()
                .is_none_or(|filter| filter.wants(&event.name))
            && any(&self.any_resource, &event.resources)
            && any(&self.resource, own)
            && any(&self.related, related)
            && self
                .id
                .as_ref()
                .and_then(|filter| filter.id.as_ref())
                .is_none_or(|ids| ids.is_empty() || ids.contains(&event.id))
    }
}

impl Occurred {
    fn wants(&self, time: Timestamp) -> bool {
        let bound = |text: &Option<String>| text.as_deref().and_then(parse_time);
        bound(&self.since).is_none_or(|since| time >= since)
            && bound(&self.until).is_none_or(|until| time <= until)
    }
}

impl Names {
    fn wants(&self, name: &str) -> bool {
        let given = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let (names, prefixes) = (given(&self.name), given(&self.prefix));
        let wanted = (names.is_empty() && prefixes.is_empty())
            || matches_any(name, &names)
            || prefixes
                .iter()
                .any(|prefix| name.starts_with(prefix.as_str()));
        let unwanted = matches_any(name, &given(&self.exclude_name))
            || given(&self.exclude_prefix)
                .iter()
                .any(|prefix| name.starts_with(prefix.as_str()));
        wanted && !unwanted
    }
}

impl Resources {
    fn wants(&self, ids: &[String]) -> bool {
        let given = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let (wanted, prefixes) = (given(&self.id), given(&self.id_prefix));
        (wanted.is_empty() && prefixes.is_empty())
            || ids.iter().any(|id| {
                matches_any(id, &wanted)
                    || prefixes
                        .iter()
                        .any(|prefix| id.starts_with(prefix.as_str()))
            })
    }
}

/// Whether a text is one of a list, in which a trailing `*` stands for anything.
fn matches_any(text: &str, list: &[String]) -> bool {
    list.iter().any(|wanted| match wanted.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => text == wanted,
    })
}

/// An event as subscribers get it.
fn frame(event: &Value) -> Utf8Bytes {
    json!({ "type": "event", "event": event })
        .to_string()
        .into()
}

fn resource_id(entry: &Value) -> Option<String> {
    let id = entry.get("prefect.resource.id")?.as_str()?;
    Some(id.to_owned())
}

/// At most so many bytes of a text, cut between characters.
fn shorten(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

#[cfg(test)]
mod tests;
