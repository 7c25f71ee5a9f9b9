//! What differs between two readings of the settings, for whoever reads them again while a worker runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use super::{
    ApiSettings, DockerSettings, KubernetesSettings, LoggingSettings, ProcessSettings,
    PullSettings, ServerSettings, Settings, StatusSettings, WorkerSettings, keys::Key,
};
use crate::{Secret, policy::Policy};

/// One setting that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its key in `worker.toml`, as `worker.limit`; the name of a Prefect setting for what only jobs are given.
    pub key: String,
    /// What it was and what it is, as people write them. None: it is a secret.
    pub values: Option<(String, String)>,
}

/// Each key with its value in one spelling.
type Values = BTreeMap<&'static str, String>;

// === impl Settings ===

impl Settings {
    /// What `new` has otherwise than this.
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let (before, after) = (values(self), values(new));
        let keys = before.into_iter().filter_map(|(key, before)| {
            let after = after.get(key).cloned().unwrap_or_default();
            let secret = Key::of(key).secret;
            (before != after).then(|| Difference {
                key: key.to_owned(),
                values: (!secret).then_some((before, after)),
            })
        });
        let keys: Vec<Difference> = keys.collect();
        let own = self.differences_of_pools(new, &keys);
        let names: BTreeSet<_> = self
            .job_environment
            .keys()
            .chain(new.job_environment.keys())
            .collect();
        let environment = names
            .into_iter()
            .filter(|name| self.job_environment.get(*name) != new.job_environment.get(*name))
            .map(|name| Difference {
                key: name.clone(),
                values: None,
            });
        keys.iter().cloned().chain(own).chain(environment).collect()
    }

    /// What is otherwise for one of several pools alone.
    fn differences_of_pools(&self, new: &Self, of_all: &[Difference]) -> Vec<Difference> {
        let mut own = Vec::new();
        if self.pools.len() < 2 {
            return own;
        }
        for before in &self.pools {
            let Some(after) = new.pools.iter().find(|after| after.pool == before.pool) else {
                continue;
            };
            let (before, after) = (of_worker(before), of_worker(after));
            for (key, was) in before {
                let is = after.get(key).cloned().unwrap_or_default();
                let name = after.get("worker.pool").cloned().unwrap_or_default();
                let values = Some((was, is));
                let said = of_all
                    .iter()
                    .any(|one| one.key == key && one.values == values);
                if !said && values.as_ref().is_some_and(|(was, is)| was != is) {
                    let key = format!("{} of work pool '{name}'", key);
                    own.push(Difference { key, values });
                }
            }
        }
        own
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.values {
            Some((before, after)) => write!(f, "{} {before} -> {after}", self.key),
            None => write!(f, "{}", self.key),
        }
    }
}

// === functions ===

fn values(settings: &Settings) -> Values {
    let Settings {
        api,
        worker,
        pools,
        status,
        logging,
        server,
        process,
        docker,
        kubernetes,
        pull,
        policy,
        job_environment: _,
        notices: _,
    } = settings;
    let mut values = Values::new();
    values.extend(of_api(api));
    values.extend(of_worker(worker));
    if pools.len() > 1 {
        let names: Vec<&str> = pools.iter().filter_map(|own| own.pool.as_deref()).collect();
        values.insert("worker.pool", names.join(", "));
    }
    values.extend(of_status(status));
    values.extend(of_logging(logging));
    values.extend(of_server(server));
    values.extend(of_engines((process, docker, kubernetes)));
    values.extend(of_pull(pull));
    values.extend(of_policy(policy));
    values
}

fn of_api(api: &ApiSettings) -> Values {
    let ApiSettings {
        url,
        key,
        auth_string,
        custom_headers,
        cloud_url,
        tls_insecure_skip_verify,
        ssl_cert_file,
        enable_http2,
        request_timeout,
        max_retries,
        retry_jitter_factor,
        retry_extra_codes,
        csrf_support,
        websockets,
    } = api;
    let headers: Vec<_> = custom_headers
        .iter()
        .map(|(name, value)| (name, value.expose()))
        .collect();
    [
        ("api.url", maybe(url.as_ref())),
        ("api.key", maybe(key.as_ref().map(Secret::expose))),
        (
            "api.auth_string",
            maybe(auth_string.as_ref().map(Secret::expose)),
        ),
        ("api.custom_headers", format!("{headers:?}")),
        ("api.cloud_url", cloud_url.to_string()),
        (
            "api.tls_insecure_skip_verify",
            tls_insecure_skip_verify.to_string(),
        ),
        ("api.ssl_cert_file", path(ssl_cert_file.as_ref())),
        ("api.enable_http2", enable_http2.to_string()),
        ("api.request_timeout", time(*request_timeout)),
        ("api.max_retries", max_retries.to_string()),
        ("api.retry_jitter_factor", retry_jitter_factor.to_string()),
        ("api.retry_extra_codes", format!("{retry_extra_codes:?}")),
        ("api.csrf_support", csrf_support.to_string()),
        ("api.websockets", websockets.to_string()),
    ]
    .into()
}

fn of_worker(worker: &WorkerSettings) -> Values {
    let WorkerSettings {
        pool,
        name,
        work_queues,
        kind,
        limit,
        start_concurrency,
        prefetch,
        query_interval,
        heartbeat_interval,
        cancellation_interval,
        run_once,
        create_pool_if_not_found,
        base_job_template,
        sync_base_job_template,
        drain_timeout,
        stop_grace,
        janitor_interval,
        janitor_dry_run,
        state_dir,
    } = worker;
    [
        ("worker.pool", maybe(pool.as_ref())),
        ("worker.name", maybe(name.as_ref())),
        ("worker.work_queues", format!("{work_queues:?}")),
        ("worker.type", maybe(kind.as_ref())),
        ("worker.limit", maybe(limit.as_ref())),
        ("worker.start_concurrency", start_concurrency.to_string()),
        ("worker.prefetch", time(*prefetch)),
        ("worker.query_interval", time(*query_interval)),
        ("worker.heartbeat_interval", time(*heartbeat_interval)),
        ("worker.cancellation_interval", time(*cancellation_interval)),
        ("worker.run_once", run_once.to_string()),
        (
            "worker.create_pool_if_not_found",
            create_pool_if_not_found.to_string(),
        ),
        ("worker.base_job_template", path(base_job_template.as_ref())),
        (
            "worker.sync_base_job_template",
            sync_base_job_template.to_string(),
        ),
        ("worker.drain_timeout", maybe(drain_timeout.map(time))),
        ("worker.stop_grace", time(*stop_grace)),
        ("worker.janitor_interval", time(*janitor_interval)),
        ("worker.janitor_dry_run", janitor_dry_run.to_string()),
        ("worker.state_dir", path(Some(state_dir))),
    ]
    .into()
}

fn of_status(status: &StatusSettings) -> Values {
    let StatusSettings {
        enabled,
        host,
        port,
    } = status;
    [
        ("status.enabled", enabled.to_string()),
        ("status.host", host.to_string()),
        ("status.port", port.to_string()),
    ]
    .into()
}

fn of_logging(logging: &LoggingSettings) -> Values {
    let LoggingSettings {
        level,
        json,
        to_api,
        batch_interval,
        batch_size,
        max_log_size,
    } = logging;
    [
        ("logging.level", level.clone()),
        ("logging.json", json.to_string()),
        ("logging.to_api", to_api.to_string()),
        ("logging.batch_interval", time(*batch_interval)),
        ("logging.batch_size", batch_size.to_string()),
        ("logging.max_log_size", max_log_size.to_string()),
    ]
    .into()
}

fn of_server(server: &ServerSettings) -> Values {
    let ServerSettings { host, port, token } = server;
    [
        ("server.host", host.to_string()),
        ("server.port", port.to_string()),
        ("server.token", maybe(token.as_ref().map(Secret::expose))),
    ]
    .into()
}

fn of_engines(
    (process, docker, kubernetes): (&ProcessSettings, &DockerSettings, &KubernetesSettings),
) -> Values {
    let ProcessSettings { python, cgroups } = process;
    let DockerSettings {
        hide_environment,
        keep_failed,
        bind_workspace,
    } = docker;
    let KubernetesSettings {
        pull_image,
        pass_credentials,
    } = kubernetes;
    [
        ("process.python", path(python.as_ref())),
        ("process.cgroups", cgroups.to_string()),
        ("docker.hide_environment", hide_environment.to_string()),
        ("docker.keep_failed", time(*keep_failed)),
        ("docker.bind_workspace", bind_workspace.to_string()),
        ("kubernetes.pull_image", maybe(pull_image.as_ref())),
        ("kubernetes.pass_credentials", pass_credentials.to_string()),
    ]
    .into()
}

fn of_pull(pull: &PullSettings) -> Values {
    let PullSettings {
        mode,
        workspaces,
        disk_floor,
        stall,
        timeout,
        cache_age,
        cache_size,
    } = pull;
    [
        ("pull.mode", mode.as_str().to_owned()),
        ("pull.workspaces", path(workspaces.as_ref())),
        ("pull.disk_floor", disk_floor.to_string()),
        ("pull.stall", time(*stall)),
        ("pull.timeout", time(*timeout)),
        ("pull.cache_age", time(*cache_age)),
        ("pull.cache_size", cache_size.to_string()),
    ]
    .into()
}

fn of_policy(policy: &Policy) -> Values {
    let Policy {
        allow_command,
        allow_environment_placeholders,
        inherit_environment,
    } = policy;
    [
        ("policy.allow_command", allow_command.to_string()),
        (
            "policy.allow_environment_placeholders",
            allow_environment_placeholders.to_string(),
        ),
        (
            "policy.inherit_environment",
            inherit_environment.to_string(),
        ),
    ]
    .into()
}

fn maybe(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn path(value: Option<&PathBuf>) -> String {
    maybe(value.map(|path| path.display()))
}

fn time(value: Duration) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests;
