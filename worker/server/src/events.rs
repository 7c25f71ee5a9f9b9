//! Events: what happened, told to whoever subscribed.
//!
//! Who listens and who does not keep up is no concern of those who publish. Events are stored by
//! [`crate::store::events`], and which of them somebody wants is decided in [`filter`].

use std::sync::{Arc, OnceLock};

use axum::extract::ws::Utf8Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::store::value::parse_time;

pub(crate) mod filter;
mod state_change;

pub(crate) use self::{filter::EventFilter, state_change::Subject};

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) occurred: Timestamp,
    /// The whole event, as it goes over the wire.
    body: Map<String, Value>,
    /// The frame a subscriber gets, made once for all of them, when it is stored.
    frame: OnceLock<Utf8Bytes>,
}

/// Where events go through.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    live: broadcast::Sender<Arc<Event>>,
}

/// How many events a subscriber may be behind before it loses some. A power of two, which is what the channel takes.
const BEHIND: usize = 1024;
/// What a frame has around an event.
const FRAME: (&str, &str) = (r#"{"type":"event","event":"#, "}");

// === impl Event ===

impl Event {
    /// Something that happened here and now to a resource, with those related to it.
    pub(crate) fn about(
        name: impl Into<String>,
        now: Timestamp,
        resource: Value,
        related: Vec<Value>,
        payload: Value,
    ) -> Self {
        let name = name.into();
        let id = Uuid::now_v7();
        let body = Map::from_iter([
            ("occurred".to_owned(), json!(now)),
            ("event".to_owned(), json!(name)),
            ("resource".to_owned(), resource),
            ("related".to_owned(), Value::Array(related)),
            ("payload".to_owned(), payload),
            ("id".to_owned(), json!(id)),
            ("follows".to_owned(), Value::Null),
            ("received".to_owned(), json!(now)),
        ]);
        Self::new(id, name, now, body)
    }

    /// The same under an id that has a meaning of its own.
    fn identified(mut self, id: Uuid) -> Self {
        self.id = id;
        self.body.insert("id".to_owned(), json!(id));
        self
    }

    /// Says which event it follows.
    pub(crate) fn following(mut self, earlier: Option<Uuid>) -> Self {
        self.body.insert("follows".to_owned(), json!(earlier));
        self
    }

    /// Reads an event that a client sent, or one that was stored.
    pub(crate) fn parse(body: Value, now: Timestamp) -> Option<Self> {
        let Value::Object(mut body) = body else {
            return None;
        };
        let name = body.get("event")?.as_str()?.to_owned();
        let occurred = parse_time(body.get("occurred")?.as_str()?)?;
        resource_id(body.get("resource")?)?;
        let id = match body.get("id").and_then(Value::as_str) {
            Some(id) => id.parse().ok()?,
            None => Uuid::now_v7(),
        };
        body.insert("id".to_owned(), id.to_string().into());
        for (key, default) in [
            ("related", json!([])),
            ("payload", json!({})),
            ("follows", Value::Null),
            ("received", json!(now)),
        ] {
            body.entry(key).or_insert(default);
        }
        Some(Self::new(id, name, occurred, body))
    }

    /// The frame a subscriber gets.
    pub(crate) fn frame(&self) -> Utf8Bytes {
        self.frame.get_or_init(|| frame(&self.body)).clone()
    }

    /// The event as JSON.
    pub(crate) fn text(&self) -> &str {
        let (before, after) = FRAME;
        let text = self.frame.get_or_init(|| frame(&self.body)).as_str();
        text.strip_prefix(before)
            .and_then(|text| text.strip_suffix(after))
            .unwrap_or(text)
    }

    /// Whether it happened to this resource.
    pub(crate) fn is_about(&self, id: &str) -> bool {
        resource_id(self.resource()) == Some(id)
    }

    /// The resource itself.
    fn resource(&self) -> &Value {
        self.body.get("resource").unwrap_or(&Value::Null)
    }

    /// Those related to it.
    fn related(&self) -> &[Value] {
        let related = self.body.get("related").and_then(Value::as_array);
        related.map(Vec::as_slice).unwrap_or_default()
    }

    /// The JSON of the whole event.
    pub(crate) fn body(&self) -> &Map<String, Value> {
        &self.body
    }

    fn new(id: Uuid, name: String, occurred: Timestamp, body: Map<String, Value>) -> Self {
        Self {
            id,
            name,
            occurred,
            body,
            frame: OnceLock::new(),
        }
    }
}

// === impl Hub ===

impl Hub {
    /// A hub that nobody listens to yet.
    pub(crate) fn new() -> Self {
        Self {
            live: broadcast::Sender::new(BEHIND),
        }
    }

    /// Tells everyone who listens.
    pub(crate) fn publish(&self, event: Event) {
        // There is nobody to hear it, which is as good as told.
        drop(self.live.send(Arc::new(event)));
    }

    /// What comes from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.live.subscribe()
    }
}

/// A resource as events name it: `prefect.<kind>.<id>`, and its name.
pub(crate) fn resource(kind: &str, id: &str, name: &str) -> Value {
    json!({ "prefect.resource.id": format!("prefect.{kind}.{id}"), "prefect.resource.name": name })
}

/// A resource with the role it has for an event.
pub(crate) fn in_role(mut resource: Value, role: &str) -> Value {
    resource["prefect.resource.role"] = role.into();
    resource
}

fn resource_id(entry: &Value) -> Option<&str> {
    entry.get("prefect.resource.id")?.as_str()
}

fn frame(body: &Map<String, Value>) -> Utf8Bytes {
    let (before, after) = FRAME;
    let body = serde_json::to_string(body).unwrap_or_default();
    format!("{before}{body}{after}").into()
}

#[cfg(test)]
mod tests;
