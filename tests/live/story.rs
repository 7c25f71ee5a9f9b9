//! What people can see of a flow run, without what differs from run to run.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use worker_tests::{http::Api, wait};

/// What can be seen, by aspect: each a list of lines that can be compared.
pub(crate) type Story = BTreeMap<String, Vec<String>>;

/// How long what was sent may take until it can be read: a real server writes events in batches.
const DELAY: Duration = Duration::from_mins(1);

/// The most events that `/events/filter` returns at once (3.8.8).
const PAGE: usize = 50;

/// Before anything that a test does, and after it.
const PAST: &str = "2026-01-01T00:00:00Z";
const FUTURE: &str = "2100-01-01T00:00:00Z";

/// The names of one column, and what stands in their place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Vec<(String, String)>);

/// Reads stories from one API.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    api: Api,
    keeps_events: bool,
}

// === impl Names ===

impl Names {
    /// Has `placeholder` stand for `name` wherever it occurs.
    pub(crate) fn hide(&mut self, name: impl Into<String>, placeholder: &str) {
        let name = name.into();
        assert!(!name.is_empty(), "nothing to put {placeholder} in place of");
        self.0.push((name, placeholder.to_owned()));
        // A name may be part of another: the longer one goes first.
        self.0.sort_by_key(|(name, _)| usize::MAX - name.len());
    }

    /// A text without names, ids and the middle of tracebacks.
    pub(crate) fn hidden(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, placeholder) in &self.0 {
            text = text.replace(name, placeholder);
        }
        without_frames(&without_ids(&text))
    }
}

// === impl Reader ===

impl Reader {
    /// Waits until everything that was sent before can be read.
    pub(crate) fn when_settled(api: Api) -> Self {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
            .expect("Linux makes ids for who asks");
        let resource = format!("worker-tests.{}", id.trim());
        let last = json!([{
            "occurred": PAST,
            "event": "settled",
            "resource": {"prefect.resource.id": resource},
            "related": [],
            "payload": {},
            "id": id.trim(),
        }]);
        let told = api
            .send("POST", "/events", Some(&last))
            .is_ok_and(|answer| answer.status == 204);
        let keeps_events = told && find_events(api, &resource).is_some();
        if keeps_events {
            wait::until("the last event can be read", DELAY, || {
                let found = find_events(api, &resource).unwrap_or_default();
                if found.is_empty() {
                    Err("nothing")
                } else {
                    Ok(())
                }
            });
        }
        Self { api, keeps_events }
    }

    /// All that can be seen of a flow run.
    pub(crate) fn read(&self, id: &str, names: &Names) -> Story {
        let answer = self.api.send("GET", &format!("/flow_runs/{id}"), None);
        let run = match answer {
            Ok(answer) if answer.status == 404 => {
                return Story::from([("flow run".to_owned(), vec!["is gone".to_owned()])]);
            }
            Ok(answer) => answer.body,
            Err(error) => panic!("no answer about flow run {id}: {error}"),
        };
        let mut names = names.clone();
        names.hide(id, "RUN-ID");
        names.hide(text(&run, "name"), "RUN");
        if let Some(pid) = run["infrastructure_pid"].as_str() {
            names.hide(format!("process {pid}"), "process PID");
        }
        let mut story = Story::new();
        story.insert("states".to_owned(), self.states(id, &names));
        story.insert("flow run".to_owned(), fields(&run, &names));
        story.insert("labels".to_owned(), labels(&run, &names));
        for (logger, lines) in self.logs(id, &names) {
            story.insert(format!("log of {logger}"), lines);
        }
        story.insert(
            "events".to_owned(),
            self.events(&format!("prefect.flow-run.{id}"), &names),
        );
        story
    }

    /// The events in which a resource has a part, in an order that does not depend on when they arrived.
    pub(crate) fn events(&self, resource: &str, names: &Names) -> Vec<String> {
        if !self.keeps_events {
            return vec!["are not kept".to_owned()];
        }
        let events = find_events(self.api, resource).unwrap_or_default();
        let mut lines: Vec<String> = events.iter().map(|event| told(event, names)).collect();
        lines.sort();
        lines
    }

    /// Type, name and message of each state, in order.
    fn states(&self, id: &str, names: &Names) -> Vec<String> {
        let states = self.api.get(&format!("/flow_run_states/?flow_run_id={id}"));
        items(&states)
            .iter()
            .map(|state| {
                let (kind, name) = (text(state, "type"), text(state, "name"));
                let message = names.hidden(text(state, "message"));
                format!("{kind} {name}: {message}")
            })
            .collect()
    }

    /// Level and message of each line, in order, by logger.
    fn logs(&self, id: &str, names: &Names) -> BTreeMap<String, Vec<String>> {
        let logs = self.api.post(
            "/logs/filter",
            &json!({
                "logs": {"flow_run_id": {"any_": [id]}},
                "sort": "TIMESTAMP_ASC",
                "limit": 200,
            }),
        );
        let mut by_logger = BTreeMap::<String, Vec<String>>::new();
        for line in items(&logs) {
            let message = names.hidden(text(line, "message"));
            by_logger
                .entry(text(line, "name").to_owned())
                .or_default()
                .push(format!("{} {message}", line["level"]));
        }
        by_logger
    }
}

// === functions ===

/// The items of a list; none of what is no list.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A field that is a text; empty when it is not.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The events in which a resource has a part; none where events cannot be asked for.
pub(crate) fn find_events(api: Api, resource: &str) -> Option<Vec<Value>> {
    let filter = json!({
        "filter": {
            "occurred": {"since": PAST, "until": FUTURE},
            "any_resource": {"id": [resource]},
            "order": "ASC",
        },
        "limit": PAGE,
    });
    let answer = api
        .send("POST", "/events/filter", Some(&filter))
        .unwrap_or_else(|error| panic!("no answer about the events of {resource}: {error}"));
    if answer.status == 404 || answer.status == 405 {
        return None;
    }
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(
        answer.body["next_page"].is_null(),
        "{resource} has more events than a page holds"
    );
    Some(items(&answer.body["events"]).to_vec())
}

/// An event as a line: its name, whose it is, and who else has a part in it.
fn told(event: &Value, names: &Names) -> String {
    let related: Vec<String> = items(&event["related"])
        .iter()
        .map(|resource| part(resource, names))
        .collect();
    format!(
        "{} of {} with {}",
        text(event, "event"),
        part(&event["resource"], names),
        related.join(", "),
    )
}

/// A resource as words: its id, its name and its labels.
fn part(resource: &Value, names: &Names) -> String {
    let id = names.hidden(text(resource, "prefect.resource.id"));
    let mut name = names.hidden(text(resource, "prefect.resource.name"));
    // The name of a task run ends in letters by chance.
    if id.starts_with("prefect.task-run.") {
        name.truncate(name.rfind('-').unwrap_or(name.len()));
    }
    let mut labels: Vec<String> = resource
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| match key.as_str() {
            "prefect.resource.id" | "prefect.resource.name" => false,
            // An id says what it is the id of.
            "prefect.resource.role" => {
                !id.starts_with(&format!("prefect.{}.", value.as_str().unwrap_or_default()))
            }
            _ => true,
        })
        .map(|(key, value)| {
            let key_in_short = key.trim_start_matches("prefect.");
            format!(" {key_in_short}={}", label(key, value, names))
        })
        .collect();
    labels.sort();
    let name = if name.is_empty() {
        name
    } else {
        format!(" '{name}'")
    };
    format!("{id}{name}{}", labels.concat())
}

/// The value of a label, without what differs from run to run.
fn label(key: &str, value: &Value, names: &Names) -> String {
    let plain = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    if key == "prefect.infrastructure.identifier" {
        return shape(&plain);
    }
    if key.ends_with("timestamp") || key.ends_with("-time") {
        return "TIME".to_owned();
    }
    names.hidden(&plain)
}

/// The fields of a flow run that people look at.
fn fields(run: &Value, names: &Names) -> Vec<String> {
    const PLAIN: [&str; 8] = [
        "created_by",
        "deployment_version",
        "flow_version",
        "job_variables",
        "parameters",
        "run_count",
        "work_pool_name",
        "work_queue_name",
    ];
    const WHETHER: [&str; 3] = ["deployment_id", "start_time", "end_time"];
    let plain = PLAIN
        .iter()
        .map(|key| format!("{key}={}", names.hidden(&run[key].to_string())));
    let whether = WHETHER.iter().map(|key| {
        let set = if run[key].is_null() { "unset" } else { "set" };
        format!("{key} is {set}")
    });
    let pid = shape(text(run, "infrastructure_pid"));
    // A server keeps tags in no order.
    let mut tags: Vec<&str> = items(&run["tags"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    tags.sort_unstable();
    plain
        .chain(whether)
        .chain([
            format!("infrastructure_pid={pid}"),
            format!("tags={tags:?}"),
        ])
        .collect()
}

/// The labels of a flow run.
fn labels(run: &Value, names: &Names) -> Vec<String> {
    let labels = run["labels"].as_object().into_iter().flatten();
    let mut lines: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", names.hidden(&value.to_string())))
        .collect();
    lines.sort();
    lines
}

/// What an infrastructure id looks like.
fn shape(id: &str) -> String {
    match id {
        "" => "none".to_owned(),
        id if id.bytes().all(|byte| byte.is_ascii_digit()) => "NUMBER".to_owned(),
        id => id.to_owned(),
    }
}

/// A text with `ID` for each UUID in it.
fn without_ids(text: &str) -> String {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    const LENGTH: usize = 36;
    let is_id = |candidate: &str| {
        let groups: Vec<&str> = candidate.split('-').collect();
        groups.len() == GROUPS.len()
            && groups.iter().zip(GROUPS).all(|(group, length)| {
                group.len() == length && group.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
    };
    let mut rest = text;
    let mut result = String::new();
    while let Some(first) = rest.chars().next() {
        if rest.get(..LENGTH).is_some_and(is_id) {
            result.push_str("ID");
            rest = &rest[LENGTH..];
        } else {
            result.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    result
}

/// A message with only the first and the last line of its traceback: between are files and lines of another's code.
fn without_frames(text: &str) -> String {
    const MARK: &str = "Traceback (most recent call last):";
    let Some((before, after)) = text.split_once(MARK) else {
        return text.to_owned();
    };
    let last = after.trim_end().lines().next_back().unwrap_or_default();
    format!("{before}{MARK} … {last}")
}

#[test]
fn ids_names_and_frames_are_hidden() {
    let mut names = Names::default();
    names.hide("pool", "POOL");
    names.hide("pool-b", "B");
    let text = "pool-b of pool: 0a1b2c3d-0069-730e-aaf2-9a3033c9e73e, é\nTraceback (most recent call last):\n  File x\nE: y\n";
    assert_eq!(
        names.hidden(text),
        "B of POOL: ID, é\nTraceback (most recent call last): … E: y"
    );
}
