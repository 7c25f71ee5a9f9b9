//! Which events somebody wants, in the words of the reference (3.8.8).
//!
//! One unknown condition, and the filter is refused: a condition that is ignored gives an answer to another question.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Event, resource_id};
use crate::store::value::parse_time;

/// Which events somebody wants. Absent conditions do not restrict.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EventFilter {
    occurred: Option<Occurred>,
    event: Option<Names>,
    resource: Option<Resources>,
    related: Option<OneOrMany<Related>>,
    any_resource: Option<OneOrMany<Resources>>,
    id: Option<Ids>,
    text: Option<Text>,
    pub(crate) order: Option<Order>,
}

/// Which of them come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Order {
    Asc,
    #[default]
    Desc,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Occurred {
    since: Option<String>,
    until: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Names {
    name: Option<Vec<String>>,
    prefix: Option<Vec<String>>,
    exclude_name: Option<Vec<String>>,
    exclude_prefix: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Resources {
    id: Option<Vec<String>>,
    id_prefix: Option<Vec<String>>,
    labels: Option<Labels>,
    /// Of no effect on which events match; the reference lists the last event of each resource.
    distinct: bool,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Related {
    id: Option<Vec<String>>,
    role: Option<Vec<String>>,
    resources_in_roles: Option<Vec<(String, String)>>,
    labels: Option<Labels>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Ids {
    id: Option<Vec<Uuid>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Text {
    query: String,
}

/// The values a label may have: `*` at either end stands for anything, `!` in front for not.
type Labels = BTreeMap<String, OneOrMany<String>>;

/// Clients may leave the list away where it has one element.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

// === impl EventFilter ===

impl EventFilter {
    /// Whether an event meets every condition.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        let own = event.resource();
        let all = || std::iter::once(own).chain(event.related());
        let any_resource = |filter: &Resources| all().any(|entry| filter.wants(entry));
        let any_related =
            |filter: &Related| event.related().iter().any(|entry| filter.wants(entry));
        met(self.occurred.as_ref(), |filter| {
            filter.wants(event.occurred)
        }) && met(self.event.as_ref(), |filter| filter.wants(&event.name))
            && met(self.resource.as_ref(), |filter| filter.wants(own))
            && met(self.any_resource.as_ref(), |filters| {
                filters
                    .iter()
                    .all(|filter| filter.is_empty() || any_resource(filter))
            })
            && met(self.related.as_ref(), |filters| {
                filters
                    .iter()
                    .all(|filter| filter.is_empty() || any_related(filter))
            })
            && met(
                self.id.as_ref().and_then(|filter| filter.id.as_ref()),
                |ids| ids.is_empty() || ids.contains(&event.id),
            )
            && met(self.text.as_ref(), |filter| filter.wants(event.text()))
    }

    /// Wants nothing that occurs after a time, unless it said until when.
    pub(crate) fn end_at(&mut self, time: Timestamp) {
        let occurred = self.occurred.get_or_insert_default();
        occurred.until.get_or_insert_with(|| time.to_string());
    }

    /// The times between which wanted events occurred, as far as the filter says.
    pub(crate) fn bounds(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let occurred = self.occurred.as_ref();
        let bound = |text: Option<&String>| parse_time(text?);
        (
            bound(occurred.and_then(|occurred| occurred.since.as_ref())),
            bound(occurred.and_then(|occurred| occurred.until.as_ref())),
        )
    }
}

// === impl Occurred ===

impl Occurred {
    fn wants(&self, time: Timestamp) -> bool {
        let bound = |text: &Option<String>| text.as_deref().and_then(parse_time);
        bound(&self.since).is_none_or(|since| time >= since)
            && bound(&self.until).is_none_or(|until| time <= until)
    }
}

// === impl Names ===

impl Names {
    fn wants(&self, name: &str) -> bool {
        let is = |wanted: &String| name == wanted;
        let starts = |prefix: &String| name.starts_with(prefix.as_str());
        one_of(self.name.as_ref(), is)
            && one_of(self.prefix.as_ref(), starts)
            && !self.exclude_name.iter().flatten().any(is)
            && !self.exclude_prefix.iter().flatten().any(starts)
    }
}

// === impl Resources ===

impl Resources {
    fn is_empty(&self) -> bool {
        let absent = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        absent(&self.id) && absent(&self.id_prefix) && self.labels.is_none()
    }

    fn wants(&self, entry: &Value) -> bool {
        let id = resource_id(entry).unwrap_or_default();
        one_of(self.id.as_ref(), |wanted| id == wanted)
            && one_of(self.id_prefix.as_ref(), |prefix| {
                id.starts_with(prefix.as_str())
            })
            && met(self.labels.as_ref(), |labels| has_labels(entry, labels))
    }
}

// === impl Related ===

impl Related {
    fn is_empty(&self) -> bool {
        let absent = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        absent(&self.id)
            && absent(&self.role)
            && self.resources_in_roles.is_none()
            && self.labels.is_none()
    }

    fn wants(&self, entry: &Value) -> bool {
        let id = resource_id(entry).unwrap_or_default();
        let role = label(entry, "prefect.resource.role").unwrap_or_default();
        one_of(self.id.as_ref(), |wanted| id == wanted)
            && one_of(self.role.as_ref(), |wanted| role == wanted)
            && one_of(self.resources_in_roles.as_ref(), |wanted| {
                wanted.0 == id && wanted.1 == role
            })
            && met(self.labels.as_ref(), |labels| has_labels(entry, labels))
    }
}

// === impl Text ===

impl Text {
    /// Any of the bare words, each word with a `+`, and none with a `-` or `!`; a phrase stands in quotes.
    fn wants(&self, text: &str) -> bool {
        let (text, query) = (text.to_lowercase(), self.query.to_lowercase());
        let (mut found, mut asked) = (false, false);
        for term in terms(&query) {
            let bare = term.trim_start_matches(['+', '-', '!']).trim_matches('"');
            let is_there = text.contains(bare);
            match term.chars().next() {
                Some('+') if !is_there => return false,
                Some('-' | '!') if is_there => return false,
                Some('+' | '-' | '!') => {}
                _ => (found, asked) = (found || is_there, true),
            }
        }
        found || !asked
    }
}

// === impl OneOrMany ===

impl<T> OneOrMany<T> {
    fn iter(&self) -> std::slice::Iter<'_, T> {
        match self {
            Self::Many(many) => many.iter(),
            Self::One(one) => std::slice::from_ref(one).iter(),
        }
    }
}

fn met<T>(condition: Option<T>, test: impl FnOnce(T) -> bool) -> bool {
    condition.is_none_or(test)
}

/// Whether one of a list will do; a list that is absent or empty does not restrict.
fn one_of<T>(list: Option<&Vec<T>>, test: impl Fn(&T) -> bool) -> bool {
    list.is_none_or(|list| list.is_empty() || list.iter().any(test))
}

fn label<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    entry.get(name)?.as_str()
}

fn has_labels(entry: &Value, labels: &Labels) -> bool {
    labels.iter().all(|(name, wanted)| {
        label(entry, name).is_some_and(|value| wanted.iter().any(|pattern| fits(value, pattern)))
    })
}

fn fits(value: &str, pattern: &str) -> bool {
    if let Some(unwanted) = pattern.strip_prefix('!') {
        return !fits(value, unwanted);
    }
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) => value.contains(pattern.trim_matches('*')),
        (Some(end), None) => value.ends_with(end),
        (None, Some(start)) => value.starts_with(start),
        (None, None) => value == pattern,
    }
}

/// The words of a search; what stands in quotes is one.
fn terms(query: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut rest = query.trim_start();
    while !rest.is_empty() {
        let sign = rest.len() - rest.trim_start_matches(['+', '-', '!']).len();
        let end = match rest.get(sign..).and_then(|bare| bare.strip_prefix('"')) {
            Some(phrase) => sign + 1 + phrase.find('"').map_or(phrase.len(), |end| end + 1),
            None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (term, after) = rest.split_at(end);
        terms.push(term);
        rest = after.trim_start();
    }
    terms
}

#[cfg(test)]
mod tests;
