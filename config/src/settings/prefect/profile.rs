//! The active Prefect profile: which file, which profile in it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Named, Notes, Sources, Written};
use crate::{
    nearest::suggestion,
    settings::{ConfigError, files},
};

/// What decides where the profiles are.
pub(super) struct Whereabouts<'a> {
    pub environment: &'a Named,
    pub dotenv: &'a Named,
    pub in_prefect: &'a Map<String, Value>,
    pub in_pyproject: &'a Map<String, Value>,
}

/// Profiles that come with Prefect: name, and the settings in it that matter here.
const BUNDLED: &[(&str, &[(&str, &str)])] = &[
    ("ephemeral", &[("PREFECT_SERVER_EPHEMERAL_ENABLED", "true")]),
    ("local", &[("PREFECT_API_URL", "http://127.0.0.1:4200/api")]),
    ("test", &[("PREFECT_SERVER_EPHEMERAL_ENABLED", "true")]),
    ("cloud", &[]),
];

/// The settings of the active profile.
///
/// One that is asked for by flag or variable must exist: the reference falls back to its own, and a worker would serve
/// another API than the one that was meant.
pub(super) fn read(sources: &Sources, whereabouts: &Whereabouts<'_>, notes: &mut Notes) -> Named {
    let asked = asked_for(sources);
    let named = named_path(sources, whereabouts);
    if let Some(missing) = named.as_deref().filter(|path| !path.exists()) {
        notes.notices.push(format!(
            "the Prefect profiles file {} does not exist",
            missing.display()
        ));
    }
    let in_home = || Some(sources.home.as_ref()?.join(".prefect/profiles.toml"));
    let path = named.or_else(in_home);
    let file = path
        .as_deref()
        .and_then(|path| files::read_toml(path, notes));
    let Some((path, file)) = path.zip(file) else {
        let name = asked.as_ref().map_or("ephemeral", |(name, _)| name);
        return bundled(name).unwrap_or_else(|| {
            unknown(name, asked.as_ref(), &Map::new(), notes);
            Named::new()
        });
    };
    let profiles = match file.get("profiles") {
        Some(Value::Object(profiles)) => profiles.clone(),
        _ => Map::new(),
    };
    let active = file.get("active").and_then(Value::as_str);
    let name = asked
        .as_ref()
        .map(|(name, _)| name.as_str())
        .or(active)
        .unwrap_or("ephemeral");
    match profiles.get(name) {
        Some(Value::Object(profile)) => from_file(profile, name, &path),
        Some(_) => {
            let place = format!("profiles.{name} in {}", path.display());
            notes
                .errors
                .push(ConfigError::new(place, "must be a table of settings"));
            Named::new()
        }
        None => bundled(name).unwrap_or_else(|| {
            unknown(name, asked.as_ref(), &profiles, notes);
            bundled("ephemeral").unwrap_or_default()
        }),
    }
}

/// The name, and where it was asked for.
fn asked_for(sources: &Sources) -> Option<(String, &'static str)> {
    let flag = sources
        .flags
        .profile
        .clone()
        .map(|name| (name, "flag --profile"));
    flag.or_else(|| {
        let name = sources.variable("PREFECT_PROFILE")?;
        Some((name.to_owned(), "environment variable PREFECT_PROFILE"))
    })
}

/// The file that somebody named, directly or by the Prefect home.
fn named_path(sources: &Sources, whereabouts: &Whereabouts<'_>) -> Option<PathBuf> {
    let Whereabouts {
        environment,
        dotenv,
        in_prefect,
        in_pyproject,
    } = whereabouts;
    let text = |value: &Value| {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let named =
        |named: &Named, name: &str| named.get(name).and_then(|written| text(&written.value));
    let home = named(environment, "PREFECT_HOME");
    named(environment, "PREFECT_PROFILES_PATH")
        .or_else(|| named(dotenv, "PREFECT_PROFILES_PATH"))
        .or_else(|| in_prefect.get("profiles_path").and_then(text))
        .or_else(|| in_pyproject.get("profiles_path").and_then(text))
        .or_else(|| home.map(|home| format!("{home}/profiles.toml")))
        .map(|path| sources.path(&path, &sources.directory))
}

fn from_file(profile: &Map<String, Value>, name: &str, path: &Path) -> Named {
    let base = path.parent().unwrap_or(path);
    let settings = profile.iter().map(|(variable, value)| {
        let place = format!("{variable} in profile '{name}' of {}", path.display());
        (
            variable.clone(),
            Written {
                value: value.clone(),
                place,
                base: base.to_owned(),
            },
        )
    });
    settings.collect()
}

fn bundled(name: &str) -> Option<Named> {
    let (_, settings) = BUNDLED.iter().find(|(bundled, _)| *bundled == name)?;
    let settings = settings.iter().map(|(variable, value)| {
        let written = Written {
            value: Value::from(*value),
            place: format!("{variable} in Prefect's own profile '{name}'"),
            base: PathBuf::new(),
        };
        ((*variable).to_owned(), written)
    });
    Some(settings.collect())
}

fn unknown(
    name: &str,
    asked: Option<&(String, &'static str)>,
    profiles: &Map<String, Value>,
    notes: &mut Notes,
) {
    let bundled = BUNDLED.iter().map(|(name, _)| *name);
    let meant = suggestion(name, profiles.keys().map(String::as_str).chain(bundled));
    match asked {
        Some((_, place)) => {
            let problem = format!("there is no profile '{name}'; {meant}");
            notes.errors.push(ConfigError::new(*place, problem));
        }
        None => notes.notices.push(format!(
            "the active Prefect profile '{name}' does not exist; {meant}"
        )),
    }
}
