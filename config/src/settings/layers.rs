//! What is set for this worker, from whichever source wins.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{
    ConfigError, Notes, Sources, Written, files,
    keys::{KEYS, Key},
    prefect::PrefectSettings,
};
use crate::nearest::{nearest, suggestion};

/// The value that wins for each key of `worker.toml` that is set anywhere.
#[derive(Debug, Default)]
pub(super) struct Layers {
    written: BTreeMap<&'static str, Written>,
    /// Keys whose value is written in a place of ours, not of Prefect's.
    ours: BTreeSet<&'static str>,
    /// What is written for one pool alone.
    pools: BTreeMap<String, BTreeMap<&'static str, Written>>,
}

/// The section of `worker.toml` with a section for each pool.
const POOLS: &str = "pools";

/// What may be said of one pool alone.
const OF_A_POOL: [&str; 5] = [
    "worker.type",
    "worker.limit",
    "worker.start_concurrency",
    "worker.work_queues",
    "worker.base_job_template",
];

/// Variables of ours that are no keys.
const OTHER_VARIABLES: &[&str] = &["WORKER_CONFIG"];

// === impl Layers ===

impl Layers {
    /// Lays all sources over each other, the lowest first.
    pub(super) fn gather(
        sources: &Sources,
        dotenv: &BTreeMap<String, String>,
        prefect: &PrefectSettings,
        notes: &mut Notes,
    ) -> Self {
        let mut layers = Self::default();
        layers.add_prefect(&prefect.files);
        layers.add_variables(dotenv, sources, &|name| {
            format!("{name} in {}", sources.directory.join(".env").display())
        });
        layers.add_file(sources, notes);
        layers.add_prefect(&prefect.environment);
        layers.add_variables(&sources.environment, sources, &|name| {
            format!("environment variable {name}")
        });
        layers.add_flags(sources, notes);
        notice_mistakes(&sources.environment, notes);
        layers
    }

    /// What is written for a key.
    pub(super) fn find(&self, id: &str) -> Option<&Written> {
        self.written.get(id)
    }

    /// Whether the value that wins is written in a place of ours.
    pub(super) fn is_ours(&self, id: &str) -> bool {
        self.ours.contains(id)
    }

    /// The pools of which something is said.
    pub(super) fn pools(&self) -> impl Iterator<Item = &String> {
        self.pools.keys()
    }

    /// What is written for a pool: what is said of it alone wins over what is said of all.
    pub(super) fn of_pool(&self, pool: &str) -> Self {
        let mut layers = Self {
            written: self.written.clone(),
            ..Self::default()
        };
        let own = self.pools.get(pool).cloned();
        layers.written.extend(own.unwrap_or_default());
        layers
    }

    fn add_prefect(&mut self, settings: &BTreeMap<&'static str, Written>) {
        for key in KEYS {
            let written = key.prefect.and_then(|path| settings.get(path));
            if let Some(written) = written {
                self.written.insert(key.id, written.clone());
                self.ours.remove(key.id);
            }
        }
        // In the reference these win over the level, whatever it is.
        for path in ["worker.debug_mode", "debug_mode"] {
            let debug = settings.get(path);
            if let Some(debug) =
                debug.filter(|written| super::read::flag(&written.value) == Ok(true))
            {
                let level = Written {
                    value: Value::from("debug"),
                    ..debug.clone()
                };
                self.written.insert("logging.level", level);
            }
        }
    }

    fn add(&mut self, key: &Key, written: Written) {
        self.written.insert(key.id, written);
        self.ours.insert(key.id);
    }

    fn add_variables(
        &mut self,
        variables: &BTreeMap<String, String>,
        sources: &Sources,
        place: &dyn Fn(&str) -> String,
    ) {
        for key in KEYS {
            for name in key.variables() {
                // An empty variable is how people unset one where they cannot remove it.
                let Some(value) = variables.get(&name).filter(|value| !value.is_empty()) else {
                    continue;
                };
                let value = match value.split_once(',') {
                    // A file and a flag say it otherwise.
                    Some(_) if key.id == "worker.pool" => {
                        Value::from_iter(value.split(',').map(str::trim))
                    }
                    _ => Value::from(value.as_str()),
                };
                let written = Written {
                    value,
                    place: place(&name),
                    base: sources.directory.clone(),
                };
                self.add(key, written);
            }
        }
    }

    fn add_file(&mut self, sources: &Sources, notes: &mut Notes) {
        let Some(path) = config_file(sources, notes) else {
            return;
        };
        let Some(file) = files::read_toml(&path, notes) else {
            return;
        };
        let base = path.parent().unwrap_or(&path);
        let sections: BTreeSet<_> = KEYS.iter().map(Key::section).collect();
        for (section, value) in file {
            let place = format!("[{section}] in {}", path.display());
            if section == POOLS {
                self.add_pools(value, (&path, base), notes);
                continue;
            }
            if !sections.contains(section.as_str()) {
                let problem = format!(
                    "unknown section; {}",
                    suggestion(&section, sections.iter().copied())
                );
                notes.errors.push(ConfigError::new(place, problem));
                continue;
            }
            match value {
                Value::Object(keys) => self.add_section(&section, keys, (&path, base), notes),
                _ => notes
                    .errors
                    .push(ConfigError::new(place, "must be a section")),
            }
        }
    }

    fn add_section(
        &mut self,
        section: &str,
        keys: Map<String, Value>,
        (path, base): (&Path, &Path),
        notes: &mut Notes,
    ) {
        for (name, value) in keys {
            let place = format!("{section}.{name} in {}", path.display());
            let known = || KEYS.iter().filter(|key| key.section() == section);
            if let Some(key) = known().find(|key| key.name() == name) {
                let base = base.to_owned();
                self.add(key, Written { value, place, base });
            } else {
                let problem = format!("unknown key; {}", suggestion(&name, known().map(Key::name)));
                notes.errors.push(ConfigError::new(place, problem));
            }
        }
    }

    /// A section for each pool, as `[pools.name]`.
    fn add_pools(&mut self, pools: Value, (path, base): (&Path, &Path), notes: &mut Notes) {
        let Value::Object(pools) = pools else {
            let place = format!("{POOLS} in {}", path.display());
            let problem = "must be sections, as in [pools.my-pool]";
            notes.errors.push(ConfigError::new(place, problem));
            return;
        };
        for (pool, keys) in pools {
            let place = format!("[{POOLS}.{pool}] in {}", path.display());
            let Value::Object(keys) = keys else {
                notes
                    .errors
                    .push(ConfigError::new(place, "must be a section"));
                continue;
            };
            let own = self.pools.entry(pool.clone()).or_default();
            for (name, value) in keys {
                let place = format!("{POOLS}.{pool}.{name} in {}", path.display());
                let known = || KEYS.iter().filter(|key| OF_A_POOL.contains(&key.id));
                if let Some(key) = known().find(|key| key.name() == name) {
                    let base = base.to_owned();
                    own.insert(key.id, Written { value, place, base });
                } else {
                    let known = suggestion(&name, known().map(Key::name));
                    let problem = format!("cannot be said of one pool alone; {known}");
                    notes.errors.push(ConfigError::new(place, problem));
                }
            }
        }
    }

    fn add_flags(&mut self, sources: &Sources, notes: &mut Notes) {
        for (pool, id, flag, value) in sources.flags.given_for_pools() {
            let written = Written {
                value,
                place: format!("flag {flag} of work pool '{pool}'"),
                base: sources.directory.clone(),
            };
            let own = self.pools.entry(pool.to_owned()).or_default();
            own.insert(id, written);
        }
        for (id, flag, value) in sources.flags.given(notes) {
            let written = Written {
                value,
                place: format!("flag {flag}"),
                base: sources.directory.clone(),
            };
            self.add(Key::of(id), written);
        }
    }
}

/// The first `worker.toml` that exists; one that is named must.
fn config_file(sources: &Sources, notes: &mut Notes) -> Option<PathBuf> {
    let flag = sources
        .flags
        .config
        .clone()
        .map(|path| (path, "flag --config"));
    let named = flag.or_else(|| {
        let path = sources.variable("WORKER_CONFIG")?;
        Some((PathBuf::from(path), "environment variable WORKER_CONFIG"))
    });
    if let Some((path, place)) = named {
        let path = path.to_str().map_or_else(
            || sources.directory.join(&path),
            |text| sources.path(text, &sources.directory),
        );
        if path.is_file() {
            return Some(path);
        }
        let problem = format!("there is no file {}", path.display());
        notes.errors.push(ConfigError::new(place, problem));
        return None;
    }
    let candidates = [
        Some(sources.directory.join("worker.toml")),
        sources
            .xdg("XDG_CONFIG_HOME", ".config")
            .map(|config| config.join("worker/worker.toml")),
        Some(PathBuf::from("/etc/worker/worker.toml")),
    ];
    candidates.into_iter().flatten().find(|path| path.is_file())
}

/// Only what looks like a spelling mistake: other programs have variables of that name, too.
fn notice_mistakes(environment: &BTreeMap<String, String>, notes: &mut Notes) {
    let known: BTreeSet<String> = KEYS
        .iter()
        .flat_map(Key::variables)
        .chain(OTHER_VARIABLES.iter().map(|name| (*name).to_owned()))
        .collect();
    for name in environment.keys() {
        if !name.starts_with("WORKER_") || known.contains(name) {
            continue;
        }
        if let Some(meant) = nearest(name, known.iter().map(String::as_str)) {
            let notice = format!("environment variable {name}: unknown, did you mean {meant}?");
            notes.notices.push(notice);
        }
    }
}
