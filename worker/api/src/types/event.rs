//! Events: what happened to whom, as the server's feed, its UI and its automations know it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Labels that name a thing. `prefect.resource.id` is demanded, `prefect.resource.role` of related ones too.
pub type Resource = BTreeMap<String, String>;

/// Something that happened, as it is told to the server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Names it; it grows with time, and telling it twice is telling it once.
    pub id: Uuid,
    /// When it happened.
    pub occurred: Timestamp,
    /// What happened, such as `prefect.worker.started`.
    #[serde(rename = "event")]
    pub name: String,
    /// To whom it happened.
    pub resource: Resource,
    /// Who else has to do with it.
    pub related: Vec<Resource>,
    /// What there is to say beyond that.
    pub payload: Map<String, Value>,
    /// The event it surely comes after.
    pub follows: Option<Uuid>,
}

/// Something that happened, as the server tells it. What is not needed to act on it stays unread.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ReceivedEvent {
    /// Names it.
    pub id: Uuid,
    /// What happened, such as `prefect.flow-run.Scheduled`.
    #[serde(rename = "event")]
    pub name: String,
    /// To whom it happened.
    pub resource: BTreeMap<String, Value>,
    /// Who else has to do with it.
    #[serde(default)]
    pub related: Vec<BTreeMap<String, Value>>,
}

/// Which events a subscriber wants.
#[derive(Clone, Debug, PartialEq)]
pub struct EventFilter {
    /// Their names.
    pub names: Vec<String>,
    /// The id of a resource that must have to do with them, such as `prefect.work-pool.<id>`.
    pub resource: String,
    /// No event that happened before.
    pub since: Timestamp,
}

// === impl ReceivedEvent ===

impl ReceivedEvent {
    /// The name of the thing that has a role in it, such as `work-queue`.
    pub fn find_related(&self, role: &str) -> Option<&str> {
        let plays = |one: &&BTreeMap<String, Value>| {
            one.get("prefect.resource.role")
                .is_some_and(|its| its == role)
        };
        self.related
            .iter()
            .find(plays)?
            .get("prefect.resource.name")?
            .as_str()
    }

    /// The id of the thing it happened to, if that is of the given kind: `flow-run` for `prefect.flow-run.<id>`.
    pub fn find_subject(&self, kind: &str) -> Option<Uuid> {
        self.resource
            .get("prefect.resource.id")?
            .as_str()?
            .strip_prefix("prefect.")?
            .strip_prefix(kind)?
            .strip_prefix('.')?
            .parse()
            .ok()
    }
}
