//! What is set for Prefect itself: its environment variables, `.env`, `prefect.toml`, `pyproject.toml` and profiles.
//!
//! Read where and as the reference reads them (`prefect.settings.sources`, 3.8.8). What the values mean for this worker is
//! left to the layers above.

mod profile;
mod spelling;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Map, Value};

use super::{Notes, Sources, Written, files};
use crate::nearest::nearest;

pub(super) use self::table::SETTINGS;

/// One setting of Prefect.
#[derive(Debug)]
pub(super) struct Setting {
    /// Where it is in `prefect.toml`, as in `worker.query_seconds`.
    pub path: &'static str,
    kind: spelling::Kind,
    /// Another variable that sets it, an older one.
    alias: Option<&'static str>,
}

/// What somebody set, by the setting's path.
#[derive(Debug, Default)]
pub(super) struct PrefectSettings {
    /// Set in a file.
    pub files: BTreeMap<&'static str, Written>,
    /// Set in the environment.
    pub environment: BTreeMap<&'static str, Written>,
}

/// Settings by the name of a variable in capitals, each with its place.
type Named = BTreeMap<String, Written>;

/// Variables of Prefect that are no settings.
const OTHER_VARIABLES: &[&str] = &["PREFECT_PROFILE"];

// === impl PrefectSettings ===

impl PrefectSettings {
    /// Reads every place where Prefect's settings may be.
    pub(super) fn gather(
        sources: &Sources,
        dotenv: &BTreeMap<String, String>,
        notes: &mut Notes,
    ) -> Self {
        let directory = &sources.directory;
        let prefect_toml = directory.join("prefect.toml");
        let pyproject_toml = directory.join("pyproject.toml");
        let in_prefect = files::read_toml(&prefect_toml, notes).unwrap_or_default();
        let in_pyproject = files::read_toml(&pyproject_toml, notes)
            .and_then(|mut file| file.shift_remove("tool"))
            .and_then(|mut tool| tool.as_object_mut()?.shift_remove("prefect"))
            .and_then(|prefect| prefect.as_object().cloned())
            .unwrap_or_default();
        let environment = from_variables(&sources.environment, directory, |name| {
            format!("environment variable {name}")
        });
        let dotenv = from_variables(dotenv, directory, |name| {
            format!("{name} in {}", directory.join(".env").display())
        });
        let profiles = profile::Whereabouts {
            environment: &environment,
            dotenv: &dotenv,
            in_prefect: &in_prefect,
            in_pyproject: &in_pyproject,
        };
        let profile = profile::read(sources, &profiles, notes);

        let mut files = BTreeMap::new();
        files.extend(pick_named(&profile));
        files.extend(pick_nested(
            &in_pyproject,
            &pyproject_toml,
            "tool.prefect.",
            notes,
        ));
        files.extend(pick_nested(&in_prefect, &prefect_toml, "", notes));
        files.extend(pick_named(&dotenv));
        for named in [&profile, &dotenv, &environment] {
            notice_mistakes(named, notes);
        }
        Self {
            files,
            environment: pick_named(&environment),
        }
    }

    /// What counts: the environment over the files.
    pub(super) fn find(&self, path: &str) -> Option<&Written> {
        self.environment.get(path).or_else(|| self.files.get(path))
    }
}

// === impl Setting ===

impl Setting {
    /// The variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!(
            "PREFECT_{}",
            self.path.replace('.', "_").to_ascii_uppercase()
        )
    }

    /// Its value as the reference writes it into the environment of a job, or what it must be.
    pub(super) fn spell(&self, value: &Value, sources: &Sources) -> Result<String, &'static str> {
        self.kind.spell(value, sources.home.as_deref())
    }

    /// Whether its value must not be shown.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self.kind, spelling::Kind::Secret | spelling::Kind::Headers)
    }

    fn names(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.variable()).chain(self.alias.map(str::to_owned))
    }
}

/// Names in any case are the same variable; one that is written in capitals wins.
fn from_variables(
    variables: &BTreeMap<String, String>,
    directory: &Path,
    place: impl Fn(&str) -> String,
) -> Named {
    let mut named = Named::new();
    let (capitals, others): (Vec<_>, Vec<_>) = variables
        .iter()
        .partition(|(name, _)| !name.contains(|c: char| c.is_ascii_lowercase()));
    for (name, value) in others.into_iter().chain(capitals) {
        let written = Written {
            value: Value::String(value.clone()),
            place: place(name),
            base: directory.to_owned(),
        };
        named.insert(name.to_ascii_uppercase(), written);
    }
    named
}

fn pick_named(named: &Named) -> BTreeMap<&'static str, Written> {
    let pick = |setting: &'static Setting| {
        let written = setting.names().find_map(|name| named.get(&name))?;
        Some((setting.path, written.clone()))
    };
    SETTINGS.iter().filter_map(pick).collect()
}

fn pick_nested(
    file: &Map<String, Value>,
    path: &Path,
    prefix: &str,
    notes: &mut Notes,
) -> BTreeMap<&'static str, Written> {
    let mut picked = BTreeMap::new();
    let base = path.parent().unwrap_or(path);
    for (key, value) in flatten(file, "") {
        let place = format!("{prefix}{key} in {}", path.display());
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.path == key) {
            let written = Written {
                value,
                place,
                base: base.to_owned(),
            };
            picked.insert(setting.path, written);
        } else if let Some(meant) = nearest(&key, SETTINGS.iter().map(|setting| setting.path)) {
            notes
                .notices
                .push(format!("{place}: unknown setting, did you mean '{meant}'?"));
        }
    }
    picked
}

/// The values in nested tables with their dotted paths. A table that is itself a setting's value is not gone into.
fn flatten(table: &Map<String, Value>, prefix: &str) -> Vec<(String, Value)> {
    let mut flat = Vec::new();
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        match value {
            Value::Object(inner) if !SETTINGS.iter().any(|setting| setting.path == path) => {
                flat.extend(flatten(inner, &format!("{path}.")));
            }
            _ => flat.push((path, value.clone())),
        }
    }
    flat
}

/// Only what looks like a spelling mistake: other programs and other releases of Prefect have variables of their own.
fn notice_mistakes(named: &Named, notes: &mut Notes) {
    let known: BTreeSet<String> = SETTINGS
        .iter()
        .flat_map(Setting::names)
        .chain(OTHER_VARIABLES.iter().map(|name| (*name).to_owned()))
        .collect();
    for (name, written) in named {
        let is_ours = name.starts_with("PREFECT_") && !name.starts_with("PREFECT__");
        if !is_ours || known.contains(name) {
            continue;
        }
        if let Some(meant) = nearest(name, known.iter().map(String::as_str)) {
            notes
                .notices
                .push(format!("{}: unknown, did you mean {meant}?", written.place));
        }
    }
}
