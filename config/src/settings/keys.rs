//! The keys of `worker.toml`: which there are, which Prefect setting says the same, and which are secrets.

/// One key of `worker.toml`.
#[derive(Debug)]
pub(super) struct Key {
    /// Section and name, as in `worker.limit`.
    pub id: &'static str,
    /// The Prefect setting that says the same, by its path.
    pub prefect: Option<&'static str>,
    /// Whether its value must not be shown.
    pub secret: bool,
}

/// Every key there is.
pub(super) const KEYS: &[Key] = &[
    same("api.url", "api.url"),
    secret("api.key", Some("api.key")),
    secret("api.auth_string", Some("api.auth_string")),
    secret("api.custom_headers", Some("client.custom_headers")),
    same("api.cloud_url", "cloud.api_url"),
    same(
        "api.tls_insecure_skip_verify",
        "api.tls_insecure_skip_verify",
    ),
    same("api.ssl_cert_file", "api.ssl_cert_file"),
    same("api.enable_http2", "api.enable_http2"),
    same("api.request_timeout", "api.request_timeout"),
    same("api.max_retries", "client.max_retries"),
    same("api.retry_jitter_factor", "client.retry_jitter_factor"),
    same("api.retry_extra_codes", "client.retry_extra_codes"),
    same("api.csrf_support", "client.csrf_support_enabled"),
    ours("api.websockets"),
    ours("worker.pool"),
    ours("worker.name"),
    ours("worker.work_queues"),
    ours("worker.type"),
    ours("worker.limit"),
    ours("worker.start_concurrency"),
    same("worker.prefetch", "worker.prefetch_seconds"),
    same("worker.query_interval", "worker.query_seconds"),
    same("worker.heartbeat_interval", "worker.heartbeat_seconds"),
    same(
        "worker.cancellation_interval",
        "worker.cancellation_poll_seconds",
    ),
    ours("worker.run_once"),
    ours("worker.create_pool_if_not_found"),
    ours("worker.base_job_template"),
    ours("worker.sync_base_job_template"),
    ours("worker.drain_timeout"),
    ours("worker.stop_grace"),
    ours("worker.janitor_interval"),
    ours("worker.janitor_dry_run"),
    ours("worker.state_dir"),
    ours("status.enabled"),
    same("status.host", "worker.webserver.host"),
    same("status.port", "worker.webserver.port"),
    same("logging.level", "logging.level"),
    ours("logging.json"),
    same("logging.to_api", "logging.to_api.enabled"),
    same("logging.batch_interval", "logging.to_api.batch_interval"),
    same("logging.batch_size", "logging.to_api.batch_size"),
    same("logging.max_log_size", "logging.to_api.max_log_size"),
    secret("traces.endpoint", None),
    ours("server.host"),
    ours("server.port"),
    secret("server.token", None),
    ours("process.python"),
    ours("process.cgroups"),
    ours("docker.hide_environment"),
    ours("docker.keep_failed"),
    ours("docker.bind_workspace"),
    ours("kubernetes.pull_image"),
    ours("kubernetes.pass_credentials"),
    ours("pull.mode"),
    ours("pull.workspaces"),
    ours("pull.disk_floor"),
    ours("pull.stall"),
    ours("pull.timeout"),
    ours("pull.cache_age"),
    ours("pull.cache_size"),
    ours("policy.allow_command"),
    ours("policy.allow_environment_placeholders"),
    ours("policy.inherit_environment"),
];

// === impl Key ===

impl Key {
    /// The key of an id that is known to exist.
    pub(super) fn of(id: &str) -> &'static Self {
        KEYS.iter()
            .find(|key| key.id == id)
            .expect("only known keys are read, which a test of the defaults checks")
    }

    /// `worker` of `worker.limit`.
    pub(super) fn section(&self) -> &'static str {
        self.id
            .split_once('.')
            .map_or(self.id, |(section, _)| section)
    }

    /// `limit` of `worker.limit`.
    pub(super) fn name(&self) -> &'static str {
        self.id.split_once('.').map_or(self.id, |(_, name)| name)
    }

    /// The variables that set it, the last one winning: `WORKER_<SECTION>_<KEY>`, and for the section `worker` also
    /// without its name, as `WORKER_POOL`.
    pub(super) fn variables(&self) -> Vec<String> {
        let long = format!("WORKER_{}_{}", self.section(), self.name()).to_ascii_uppercase();
        if self.section() != "worker" {
            return vec![long];
        }
        vec![format!("WORKER_{}", self.name()).to_ascii_uppercase(), long]
    }
}

const fn ours(id: &'static str) -> Key {
    Key {
        id,
        prefect: None,
        secret: false,
    }
}

const fn same(id: &'static str, prefect: &'static str) -> Key {
    Key {
        id,
        prefect: Some(prefect),
        secret: false,
    }
}

const fn secret(id: &'static str, prefect: Option<&'static str>) -> Key {
    Key {
        id,
        prefect,
        secret: true,
    }
}
