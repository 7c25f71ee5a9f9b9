//! The settings and their defaults: those of the reference (3.8.8) where it has them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use url::Url;

use super::{
    ApiSettings, DiskFloor, DockerSettings, KubernetesSettings, LoggingSettings, Notes,
    ProcessSettings, PullMode, PullSettings, ServerSettings, Settings, Sources, StatusSettings,
    WorkerSettings,
    layers::Layers,
    prefect::PrefectSettings,
    read::{self, Reader},
};
use crate::{lenient, policy::Policy};

/// Enough for journal, logs and the code of most deployments, and little on any disk.
const DISK_FLOOR: DiskFloor = DiskFloor::Bytes(500_000_000);
const CLOUD_URL: &str = "https://api.prefect.cloud/api";
/// What Prefect Cloud takes of one line.
const CLOUD_MAX_LOG_SIZE: usize = 25_000;
/// Where `worker server` listens, as `prefect server start`.
const SERVER_PORT: u16 = 4200;

/// Makes settings of what is written. What is wrong is noted, and its default taken.
pub(super) fn settings(
    sources: &Sources,
    layers: &Layers,
    prefect: &PrefectSettings,
    notes: &mut Notes,
) -> Settings {
    let mut reader = Reader::new(sources, layers, notes);
    let api = api(&mut reader, sources);
    let mut logging = logging(&mut reader);
    if is_cloud(&api) {
        let cloud = prefect
            .find("cloud.max_log_size")
            .and_then(|written| usize::try_from(lenient::whole(&written.value)?).ok());
        logging.max_log_size = logging
            .max_log_size
            .min(cloud.unwrap_or(CLOUD_MAX_LOG_SIZE));
    }
    let mut all = worker(&mut reader, sources);
    let pools = pools(&mut reader, sources);
    // What is said of the only pool is said of the worker.
    match pools.as_slice() {
        [only] => all.clone_from(only),
        _ => all.pool = pools.first().and_then(|first| first.pool.clone()),
    }
    Settings {
        worker: all,
        pools,
        status: status(&mut reader),
        server: server(&mut reader, sources),
        process: process(&mut reader),
        docker: docker(&mut reader),
        kubernetes: kubernetes(&mut reader),
        pull: pull(&mut reader),
        policy: policy(&mut reader),
        api,
        logging,
        job_environment: BTreeMap::new(),
        notices: Vec::new(),
    }
}

/// Whether the API is Prefect Cloud.
pub(super) fn is_cloud(api: &ApiSettings) -> bool {
    let url = api.url.as_ref();
    url.is_some_and(|url| url.as_str().starts_with(api.cloud_url.as_str()))
}

fn api(reader: &mut Reader<'_>, sources: &Sources) -> ApiSettings {
    let url = reader.find("api.url", read::url).flatten();
    if url.as_ref().is_some_and(|url| !url.path().contains("/api")) {
        reader.notice("api.url", "the URL of an API usually ends in /api");
    }
    let cloud_url = reader.find("api.cloud_url", read::url).flatten();
    let ssl_cert_file = reader
        .path("api.ssl_cert_file")
        .or_else(|| sources.variable("SSL_CERT_FILE").map(PathBuf::from));
    ApiSettings {
        url,
        key: reader.find("api.key", read::optional_secret).flatten(),
        auth_string: reader
            .find("api.auth_string", read::optional_secret)
            .flatten(),
        custom_headers: reader
            .find("api.custom_headers", read::headers)
            .unwrap_or_default(),
        cloud_url: cloud_url.unwrap_or_else(|| Url::parse(CLOUD_URL).expect("the URL is constant")),
        tls_insecure_skip_verify: reader
            .find("api.tls_insecure_skip_verify", read::flag)
            .unwrap_or(false),
        ssl_cert_file,
        enable_http2: reader.find("api.enable_http2", read::flag).unwrap_or(false),
        request_timeout: reader
            .find("api.request_timeout", read::interval)
            .unwrap_or(Duration::from_mins(1)),
        max_retries: reader.find("api.max_retries", read::whole(0)).unwrap_or(5),
        retry_jitter_factor: reader
            .find("api.retry_jitter_factor", read::share)
            .unwrap_or(0.2),
        retry_extra_codes: reader
            .find("api.retry_extra_codes", read::status_codes)
            .unwrap_or_default(),
        csrf_support: reader.find("api.csrf_support", read::flag).unwrap_or(true),
        websockets: reader.find("api.websockets", read::flag).unwrap_or(true),
    }
}

fn worker(reader: &mut Reader<'_>, sources: &Sources) -> WorkerSettings {
    let count = || read::whole(1);
    let cores = u32::try_from(sources.cores).unwrap_or(u32::MAX);
    // A start is mostly waiting, for the API, the disk and the engine, so a few of them a core keep it busy.
    let starts = NonZeroU32::new(cores.saturating_mul(4).max(16)).expect("at least sixteen");
    WorkerSettings {
        pool: None,
        name: reader.find("worker.name", read::worker_name),
        work_queues: reader
            .find("worker.work_queues", read::texts)
            .unwrap_or_default(),
        kind: reader.find("worker.type", read::kind),
        limit: reader
            .find("worker.limit", count())
            .and_then(NonZeroU32::new),
        start_concurrency: reader
            .find("worker.start_concurrency", count())
            .and_then(NonZeroU32::new)
            .unwrap_or(starts),
        prefetch: reader
            .find("worker.prefetch", read::duration)
            .unwrap_or(Duration::from_secs(10)),
        query_interval: reader
            .find("worker.query_interval", read::interval)
            .unwrap_or(Duration::from_secs(10)),
        heartbeat_interval: reader
            .find("worker.heartbeat_interval", read::interval)
            .unwrap_or(Duration::from_secs(30)),
        cancellation_interval: reader
            .find("worker.cancellation_interval", read::interval)
            .unwrap_or(Duration::from_secs(10)),
        run_once: reader.find("worker.run_once", read::flag).unwrap_or(false),
        create_pool_if_not_found: reader
            .find("worker.create_pool_if_not_found", read::flag)
            .unwrap_or(true),
        base_job_template: reader.path("worker.base_job_template"),
        sync_base_job_template: reader
            .find("worker.sync_base_job_template", read::flag)
            .unwrap_or(false),
        drain_timeout: reader.find("worker.drain_timeout", read::duration),
        stop_grace: reader
            .find("worker.stop_grace", read::duration)
            .unwrap_or(Duration::from_secs(30)),
        janitor_interval: reader
            .find("worker.janitor_interval", read::interval)
            .unwrap_or(Duration::from_mins(5)),
        janitor_dry_run: reader
            .find("worker.janitor_dry_run", read::flag)
            .unwrap_or(false),
        state_dir: reader
            .path("worker.state_dir")
            .unwrap_or_else(|| default_state_dir(sources)),
    }
}

/// The settings of each pool: of those that are named, else of those that have a section.
fn pools(reader: &mut Reader<'_>, sources: &Sources) -> Vec<WorkerSettings> {
    let names = reader.find("worker.pool", read::names);
    let sections = reader.layers().pools();
    let names = names.unwrap_or_else(|| sections.cloned().collect());
    for (pool, _, flag, _) in sources.flags.given_for_pools() {
        if !names.iter().any(|name| name == pool) {
            let problem = format!("'{pool}' is not among the work pools of this worker");
            reader.error(&format!("flag {flag}"), problem);
        }
    }
    let pools = names.into_iter().map(|name| {
        let own = reader.layers().of_pool(&name);
        WorkerSettings {
            pool: Some(name),
            ..worker(&mut reader.over(&own), sources)
        }
    });
    pools.collect()
}

/// What systemd made for the unit, else where a user's programs keep such things, else where a machine's do.
fn default_state_dir(sources: &Sources) -> PathBuf {
    let systemd = sources.variable("STATE_DIRECTORY");
    systemd
        .and_then(|paths| paths.split(':').find(|path| !path.is_empty()))
        .map(PathBuf::from)
        .or_else(|| {
            Some(
                sources
                    .xdg("XDG_STATE_HOME", ".local/state")?
                    .join("worker"),
            )
        })
        .unwrap_or_else(|| PathBuf::from("/var/lib/worker"))
}

fn status(reader: &mut Reader<'_>) -> StatusSettings {
    StatusSettings {
        enabled: reader.find("status.enabled", read::flag).unwrap_or(false),
        host: reader
            .find("status.host", read::address)
            .unwrap_or(LOOPBACK),
        port: reader.find("status.port", read::port).unwrap_or(8080),
    }
}

fn logging(reader: &mut Reader<'_>) -> LoggingSettings {
    let bytes = || read::whole(1);
    let batch_size = reader
        .find("logging.batch_size", bytes())
        .unwrap_or(4_000_000);
    let max_log_size = reader
        .find("logging.max_log_size", bytes())
        .unwrap_or(1_000_000);
    if max_log_size > batch_size {
        reader.wrong(
            "logging.max_log_size",
            &format!(
                "must not be more than logging.batch_size: {max_log_size} is more than {batch_size}"
            ),
        );
    }
    LoggingSettings {
        level: reader
            .find("logging.level", read::log_level)
            .unwrap_or_else(|| "info".to_owned()),
        json: reader.find("logging.json", read::flag).unwrap_or(false),
        to_api: reader.find("logging.to_api", read::flag).unwrap_or(true),
        batch_interval: reader
            .find("logging.batch_interval", read::interval)
            .unwrap_or(Duration::from_secs(2)),
        batch_size,
        max_log_size,
    }
}

fn server(reader: &mut Reader<'_>, sources: &Sources) -> ServerSettings {
    let default_port = if sources.flags.serve { SERVER_PORT } else { 0 };
    let server = ServerSettings {
        host: reader
            .find("server.host", read::address)
            .unwrap_or(LOOPBACK),
        port: reader
            .find("server.port", read::port)
            .unwrap_or(default_port),
        token: reader.find("server.token", read::optional_secret).flatten(),
    };
    if !server.host.is_loopback() && server.token.is_none() {
        reader.wrong(
            "server.host",
            "others can reach this address, so there must be a token; set server.token or WORKER_SERVER_TOKEN",
        );
    }
    server
}

fn process(reader: &mut Reader<'_>) -> ProcessSettings {
    ProcessSettings {
        python: reader.program("process.python"),
        cgroups: reader.find("process.cgroups", read::flag).unwrap_or(true),
    }
}

fn docker(reader: &mut Reader<'_>) -> DockerSettings {
    DockerSettings {
        hide_environment: reader
            .find("docker.hide_environment", read::flag)
            .unwrap_or(false),
        keep_failed: reader
            .find("docker.keep_failed", read::duration)
            .unwrap_or_default(),
        bind_workspace: reader
            .find("docker.bind_workspace", read::flag)
            .unwrap_or(false),
    }
}

fn kubernetes(reader: &mut Reader<'_>) -> KubernetesSettings {
    KubernetesSettings {
        pull_image: reader
            .find("kubernetes.pull_image", read::optional_text)
            .flatten(),
        pass_credentials: reader
            .find("kubernetes.pass_credentials", read::flag)
            .unwrap_or(true),
    }
}

fn pull(reader: &mut Reader<'_>) -> PullSettings {
    PullSettings {
        mode: reader
            .find("pull.mode", read::pull_mode)
            .unwrap_or(PullMode::Auto),
        workspaces: reader.path("pull.workspaces"),
        disk_floor: reader
            .find("pull.disk_floor", read::disk_floor)
            .unwrap_or(DISK_FLOOR),
        stall: reader
            .find("pull.stall", read::interval)
            .unwrap_or(Duration::from_mins(1)),
        timeout: reader
            .find("pull.timeout", read::interval)
            .unwrap_or(Duration::from_hours(1)),
        cache_age: reader
            .find("pull.cache_age", read::duration)
            .unwrap_or(Duration::from_hours(14 * 24)),
        cache_size: reader
            .find("pull.cache_size", read::bytes)
            .unwrap_or(10 << 30),
    }
}

fn policy(reader: &mut Reader<'_>) -> Policy {
    let Policy {
        allow_command,
        allow_environment_placeholders,
        inherit_environment,
    } = Policy::default();
    Policy {
        allow_command: reader
            .find("policy.allow_command", read::flag)
            .unwrap_or(allow_command),
        allow_environment_placeholders: reader
            .find("policy.allow_environment_placeholders", read::flag)
            .unwrap_or(allow_environment_placeholders),
        inherit_environment: reader
            .find("policy.inherit_environment", read::flag)
            .unwrap_or(inherit_environment),
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
