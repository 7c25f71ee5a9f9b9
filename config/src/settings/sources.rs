//! Where settings come from, as plain data: the process's surroundings are read at the edge, not here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{ConfigError, Notes};

/// Everything outside of files that decides on the settings.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The command line.
    pub flags: Flags,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The working directory.
    pub directory: PathBuf,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// How many cores there are to use.
    pub cores: usize,
}

/// The command line: the flags of `prefect worker start` (3.8.8), then ours. None: not given.
///
/// Durations are a number of seconds or a text like `90`, `30s`, `5m`, `1h30m`.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--pool`, repeated: the work pools.
    pub pools: Vec<String>,
    /// `--name`: this worker's name.
    pub name: Option<String>,
    /// `--work-queue`, repeated: the queues to poll.
    pub work_queues: Vec<String>,
    /// `--type`, repeated: the pool type, or that of one pool as `POOL=TYPE`.
    pub kinds: Vec<String>,
    /// `--prefetch-seconds`, a duration.
    pub prefetch_seconds: Option<String>,
    /// `--run-once` and `--no-run-once`.
    pub run_once: Option<bool>,
    /// `--limit`, repeated: how many flow runs at once, or how many of one pool as `POOL=N`.
    pub limits: Vec<String>,
    /// `--with-healthcheck` and `--no-with-healthcheck`: the status server.
    pub with_healthcheck: Option<bool>,
    /// `--base-job-template`: a file.
    pub base_job_template: Option<PathBuf>,
    /// `--create-pool-if-not-found` and `--no-create-pool-if-not-found`.
    pub create_pool_if_not_found: Option<bool>,
    /// `--profile`: the Prefect profile.
    pub profile: Option<String>,
    /// `--config`: the `worker.toml`, which must exist.
    pub config: Option<PathBuf>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--api-url`.
    pub api_url: Option<String>,
    /// `--query-interval`, a duration.
    pub query_interval: Option<String>,
    /// `--start-concurrency`.
    pub start_concurrency: Option<u32>,
    /// `--drain-timeout`, a duration.
    pub drain_timeout: Option<String>,
    /// `--stop-grace`, a duration.
    pub stop_grace: Option<String>,
    /// `--status-host`.
    pub status_host: Option<String>,
    /// `--status-port`.
    pub status_port: Option<u16>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--log-json` and `--no-log-json`.
    pub log_json: Option<bool>,
    /// `--pull-mode`: who runs pull steps.
    pub pull_mode: Option<String>,
    /// `--workspaces`: where workspaces are made.
    pub workspaces: Option<PathBuf>,
    /// `--disk-floor`: how much of the disk must be free.
    pub disk_floor: Option<String>,
    /// `--python`: the interpreter for flows in subprocesses.
    pub python: Option<PathBuf>,
    /// `--host` of `worker server`.
    pub server_host: Option<String>,
    /// `--port` of `worker server`.
    pub server_port: Option<u16>,
    /// Whether the command is `worker server`: then the port is 4200 unless something says otherwise.
    pub serve: bool,
}

/// Flags that are given: key of `worker.toml`, spelling, value.
#[derive(Default)]
struct Given(Vec<(&'static str, &'static str, Value)>);

// === impl Sources ===

impl Sources {
    /// The first of the variables that is set to something.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// A path as a person means it: `~` is the home, and a relative path is relative to `base`.
    pub(super) fn path(&self, text: &str, base: &Path) -> PathBuf {
        match (text.strip_prefix('~'), &self.home) {
            (Some(""), Some(home)) => home.clone(),
            (Some(rest), Some(home)) if rest.starts_with('/') => {
                home.join(rest.trim_start_matches('/'))
            }
            _ => base.join(text),
        }
    }

    /// A directory that an XDG variable names; by its rules a relative one does not count.
    pub(super) fn xdg(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let named = self.variable(variable).map(PathBuf::from);
        named
            .filter(|path| path.is_absolute())
            .or_else(|| self.home.as_ref().map(|home| home.join(below_home)))
    }
}

// === impl Flags ===

impl Flags {
    /// The flags that are given and set a key of `worker.toml`: key, spelling, value.
    pub(super) fn given(&self, notes: &mut Notes) -> Vec<(&'static str, &'static str, Value)> {
        let Self {
            pools,
            name,
            work_queues,
            kinds,
            prefetch_seconds,
            run_once,
            limits,
            with_healthcheck,
            base_job_template,
            create_pool_if_not_found,
            profile: _,
            config: _,
            state_dir,
            api_url,
            query_interval,
            start_concurrency,
            drain_timeout,
            stop_grace,
            status_host,
            status_port,
            log_level,
            log_json,
            pull_mode,
            workspaces,
            disk_floor,
            python,
            server_host,
            server_port,
            serve: _,
        } = self;
        let queues = (!work_queues.is_empty()).then(|| work_queues.clone());
        let mut given = Given::default();
        match pools.as_slice() {
            [] => {}
            [only] => given.add("worker.pool", Some(only)),
            several => given.add("worker.pool", Some(&several.to_vec())),
        }
        given.add("worker.name", name.as_ref());
        given.add("worker.work_queues", queues.as_ref());
        given.add("worker.type", for_all(kinds));
        given.add("worker.prefetch", prefetch_seconds.as_ref());
        given.add("worker.run_once", run_once.as_ref());
        given.add("worker.limit", for_all(limits));
        given.add("status.enabled", with_healthcheck.as_ref());
        given.add_path(
            "worker.base_job_template",
            base_job_template.as_ref(),
            notes,
        );
        let create = create_pool_if_not_found.as_ref();
        given.add("worker.create_pool_if_not_found", create);
        given.add_path("worker.state_dir", state_dir.as_ref(), notes);
        given.add("api.url", api_url.as_ref());
        given.add("worker.query_interval", query_interval.as_ref());
        given.add("worker.start_concurrency", start_concurrency.as_ref());
        given.add("worker.drain_timeout", drain_timeout.as_ref());
        given.add("worker.stop_grace", stop_grace.as_ref());
        given.add("status.host", status_host.as_ref());
        given.add("status.port", status_port.as_ref());
        given.add("logging.level", log_level.as_ref());
        given.add("logging.json", log_json.as_ref());
        given.add("pull.mode", pull_mode.as_ref());
        given.add_path("pull.workspaces", workspaces.as_ref(), notes);
        given.add("pull.disk_floor", disk_floor.as_ref());
        given.add_path("process.python", python.as_ref(), notes);
        given.add("server.host", server_host.as_ref());
        given.add("server.port", server_port.as_ref());
        given.0
    }
}

impl Flags {
    /// The flags that are given for one pool: pool, key of `worker.toml`, spelling, value.
    pub(super) fn given_for_pools(
        &self,
    ) -> impl Iterator<Item = (&str, &'static str, &'static str, Value)> {
        let both = [("worker.type", &self.kinds), ("worker.limit", &self.limits)];
        both.into_iter().flat_map(|(id, texts)| {
            let for_pools = texts.iter().filter_map(|text| text.rsplit_once('='));
            for_pools.map(move |(pool, value)| (pool, id, spelling(id), Value::from(value)))
        })
    }
}

// === impl Given ===

impl Given {
    fn add<T: Clone + Into<Value>>(&mut self, id: &'static str, value: Option<&T>) {
        self.0
            .extend(value.map(|value| (id, spelling(id), value.clone().into())));
    }

    fn add_path(&mut self, id: &'static str, path: Option<&PathBuf>, notes: &mut Notes) {
        let Some(path) = path else {
            return;
        };
        if let Some(text) = path.to_str() {
            self.0.push((id, spelling(id), Value::from(text)));
        } else {
            let place = format!("flag {}", spelling(id));
            notes
                .errors
                .push(ConfigError::new(place, "must be valid UTF-8"));
        }
    }
}

/// The last of the values that are not for one pool alone.
fn for_all(texts: &[String]) -> Option<&String> {
    texts.iter().rfind(|text| !text.contains('='))
}

/// How the flag of a key is spelled, in messages about its value.
fn spelling(id: &str) -> &'static str {
    flag_of(id).unwrap_or("for this key")
}

/// The flag that sets a key.
pub(super) fn flag_of(id: &str) -> Option<&'static str> {
    Some(match id {
        "worker.pool" => "--pool",
        "worker.name" => "--name",
        "worker.work_queues" => "--work-queue",
        "worker.type" => "--type",
        "worker.prefetch" => "--prefetch-seconds",
        "worker.run_once" => "--run-once",
        "worker.limit" => "--limit",
        "status.enabled" => "--with-healthcheck",
        "worker.base_job_template" => "--base-job-template",
        "worker.create_pool_if_not_found" => "--create-pool-if-not-found",
        "worker.state_dir" => "--state-dir",
        "api.url" => "--api-url",
        "worker.query_interval" => "--query-interval",
        "worker.start_concurrency" => "--start-concurrency",
        "worker.drain_timeout" => "--drain-timeout",
        "worker.stop_grace" => "--stop-grace",
        "status.host" => "--status-host",
        "status.port" => "--status-port",
        "logging.level" => "--log-level",
        "logging.json" => "--log-json",
        "process.python" => "--python",
        "pull.mode" => "--pull-mode",
        "pull.workspaces" => "--workspaces",
        "pull.disk_floor" => "--disk-floor",
        "server.host" => "--host",
        "server.port" => "--port",
        _ => return None,
    })
}
