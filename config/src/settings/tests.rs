use std::{collections::BTreeMap, fs, net::IpAddr, path::Path, time::Duration};

use serde::Deserialize;
use serde_json::json;

use super::{
    ConfigErrors, DiskFloor, Flags, Notes, PullMode, Settings, Sources, keys::KEYS, load,
    prefect::SETTINGS,
};
use crate::{DriverKind, Secret, policy::Policy};

/// What `to_environment_variables(exclude_unset=True)` of Prefect 3.8.8 answers, where `$HOME` is the home.
const JOB_ENVIRONMENT: &str = include_str!("tests/job_environment.json");
const REFERENCE: &str = include_str!("../../reference.toml");

/// A home and a working directory of its own.
struct Place {
    root: tempfile::TempDir,
    sources: Sources,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let sources = Sources {
            directory: root.path().join("cwd"),
            home: Some(root.path().join("home")),
            cores: 3,
            ..Sources::default()
        };
        fs::create_dir_all(&sources.directory).expect("a working directory");
        Self { root, sources }
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    /// Writes a file below the root; `$ROOT` in it is the root.
    fn file(self, name: &str, text: &str) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory");
        fs::write(
            path,
            text.replace("$ROOT", &self.path().display().to_string()),
        )
        .expect("a file");
        self
    }

    fn config(self, text: &str) -> Self {
        self.file("cwd/worker.toml", text)
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        let value = value.replace("$ROOT", &self.path().display().to_string());
        self.sources.environment.insert(name.to_owned(), value);
        self
    }

    fn flags(mut self, flags: Flags) -> Self {
        self.sources.flags = flags;
        self
    }

    fn load(&self) -> Result<Settings, ConfigErrors> {
        load(&self.sources)
    }

    fn settings(&self) -> Settings {
        self.load().expect("sound settings")
    }

    /// The errors as people read them, with the root cut out.
    fn errors(&self) -> String {
        let errors = self.load().expect_err("something wrong").to_string();
        errors.replace(&self.path().display().to_string(), "")
    }

    fn notices(&self) -> Vec<String> {
        let root = self.path().display().to_string();
        let notices = self.settings().notices;
        notices
            .into_iter()
            .map(|notice| notice.replace(&root, ""))
            .collect()
    }
}

fn exposed(environment: &BTreeMap<String, Secret>) -> BTreeMap<String, String> {
    let exposed = environment
        .iter()
        .map(|(name, value)| (name.clone(), value.expose().to_owned()));
    exposed.collect()
}

#[test]
fn without_anything_there_are_defaults() {
    let place = Place::new();
    let settings = place.settings();
    assert_eq!(settings.api.url, None);
    assert_eq!(
        settings.api.cloud_url.as_str(),
        "https://api.prefect.cloud/api"
    );
    assert_eq!(settings.api.request_timeout, Duration::from_mins(1));
    assert_eq!(settings.api.max_retries, 5);
    assert_eq!(settings.worker.limit, None);
    assert_eq!(settings.worker.start_concurrency.get(), 16);
    assert_eq!(settings.worker.prefetch, Duration::from_secs(10));
    assert_eq!(settings.worker.query_interval, Duration::from_secs(10));
    assert_eq!(settings.worker.heartbeat_interval, Duration::from_secs(30));
    assert_eq!(
        settings.worker.cancellation_interval,
        Duration::from_secs(10)
    );
    assert_eq!(settings.worker.drain_timeout, None);
    assert_eq!(settings.worker.stop_grace, Duration::from_secs(30));
    assert_eq!(
        settings.worker.state_dir,
        place.path().join("home/.local/state/worker")
    );
    assert!(settings.worker.create_pool_if_not_found);
    assert!(!settings.status.enabled);
    assert_eq!(settings.status.host, IpAddr::from([127, 0, 0, 1]));
    assert_eq!(settings.status.port, 8080);
    assert_eq!(settings.server.port, 0);
    assert_eq!(settings.logging.level, "info");
    assert_eq!(settings.policy, Policy::default());
    assert_eq!(settings.notices, Vec::<String>::new());
}

/// The lines of `reference.toml` with the assignments that `wanted` wants uncommented.
fn uncommented(wanted: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for line in REFERENCE.lines() {
        let assignment = line.strip_prefix("# ").filter(|rest| {
            rest.split_once(" = ")
                .is_some_and(|(key, _)| !key.contains(' '))
                && wanted(rest)
        });
        text.push_str(assignment.unwrap_or(line));
        text.push('\n');
    }
    text
}

#[test]
fn reference_toml_is_the_defaults() {
    let place = Place::new();
    let defaults = place.settings();
    let place = place.config(REFERENCE);
    assert_eq!(place.settings(), defaults);
    let place = place.config(&uncommented(|line| !line.ends_with("# example")));
    let written = place.settings();
    assert!(written.job_environment.len() > defaults.job_environment.len());
    let job_environment = defaults.job_environment.clone();
    assert_eq!(
        Settings {
            job_environment,
            ..written
        },
        defaults
    );
}

#[test]
fn reference_toml_has_every_key_and_each_example_is_accepted() {
    let text = uncommented(|_| true);
    let table: toml::Table = text.parse().expect("TOML");
    for key in KEYS {
        let value = table
            .get(key.section())
            .and_then(|section| section.get(key.name()));
        assert!(value.is_some(), "{} is missing", key.id);
    }
    let settings = Place::new().config(&text).settings();
    assert_eq!(settings.worker.kind, Some(DriverKind::Process));
}

#[test]
fn reference_toml_explains_each_key() {
    let lines: Vec<_> = REFERENCE.lines().collect();
    for key in KEYS {
        let at = lines.iter().position(|line| {
            let line = line.strip_prefix("# ").unwrap_or(line);
            line.starts_with(&format!("{} = ", key.name()))
        });
        let at = at.unwrap_or_else(|| panic!("{} is missing", key.id));
        let before = lines[at - 1];
        assert!(
            before.starts_with("# ") && before.ends_with('.'),
            "{}: {before}",
            key.id
        );
    }
}

#[test]
fn each_layer_wins_over_the_one_below() {
    let profile = "active = 'p'\n[profiles.p]\nPREFECT_WORKER_QUERY_SECONDS = '1'\n";
    let mut place = Place::new().file("home/.prefect/profiles.toml", profile);
    let interval = |place: &Place| place.settings().worker.query_interval.as_secs();
    assert_eq!(interval(&place), 1);
    place = place.file(
        "cwd/pyproject.toml",
        "[tool.prefect.worker]\nquery_seconds = 2\n",
    );
    assert_eq!(interval(&place), 2);
    place = place.file("cwd/prefect.toml", "[worker]\nquery_seconds = 3\n");
    assert_eq!(interval(&place), 3);
    place = place.file("cwd/.env", "PREFECT_WORKER_QUERY_SECONDS=4\n");
    assert_eq!(interval(&place), 4);
    place = place.file(
        "cwd/.env",
        "PREFECT_WORKER_QUERY_SECONDS=4\nWORKER_QUERY_INTERVAL=5\n",
    );
    assert_eq!(interval(&place), 5);
    place = place.config("[worker]\nquery_interval = 6\n");
    assert_eq!(interval(&place), 6);
    place = place.var("PREFECT_WORKER_QUERY_SECONDS", "7");
    assert_eq!(interval(&place), 7);
    place = place.var("WORKER_QUERY_INTERVAL", "8");
    assert_eq!(interval(&place), 8);
    place = place.var("WORKER_WORKER_QUERY_INTERVAL", "9");
    assert_eq!(interval(&place), 9);
    place = place.flags(Flags {
        query_interval: Some("10".into()),
        ..Flags::default()
    });
    assert_eq!(interval(&place), 10);
}

fn every_flag() -> Flags {
    Flags {
        pools: vec!["docker-pool".into()],
        name: Some("w 1".into()),
        work_queues: vec!["a".into(), "b,c".into()],
        kinds: vec!["docker".into()],
        prefetch_seconds: Some("20".into()),
        run_once: Some(true),
        limits: vec!["3".into()],
        with_healthcheck: Some(true),
        base_job_template: Some("t.json".into()),
        create_pool_if_not_found: Some(false),
        profile: Some("local".into()),
        config: Some("other.toml".into()),
        state_dir: Some("/s".into()),
        api_url: Some("http://h:1/api/".into()),
        query_interval: Some("1m".into()),
        start_concurrency: Some(9),
        drain_timeout: Some("0".into()),
        stop_grace: Some("1s".into()),
        status_host: Some("0.0.0.0".into()),
        status_port: Some(9),
        log_level: Some("worker=DEBUG,warning".into()),
        log_json: Some(true),
        pull_mode: Some("job".into()),
        workspaces: Some("w".into()),
        disk_floor: Some("5%".into()),
        python: Some("python3".into()),
        server_host: Some("::1".into()),
        server_port: Some(10),
        serve: true,
    }
}

#[test]
fn every_flag_is_called_what_people_type() {
    for (_, flag, _) in every_flag().given(&mut Notes::default()) {
        assert!(flag.starts_with("--"), "{flag}");
    }
}

#[test]
fn every_flag_reaches_its_setting() {
    let place = Place::new()
        .file("cwd/other.toml", "[logging]\njson = false\n")
        .flags(every_flag());
    let Settings {
        api,
        worker,
        status,
        logging,
        server,
        process,
        pull,
        ..
    } = place.settings();
    assert_eq!(worker.pool.as_deref(), Some("docker-pool"));
    assert_eq!(worker.name.as_deref(), Some("w 1"));
    assert_eq!(worker.work_queues, ["a", "b,c"]);
    assert_eq!(worker.kind, Some(DriverKind::Docker));
    assert_eq!(worker.prefetch, Duration::from_secs(20));
    assert!(worker.run_once);
    assert_eq!(worker.limit.map(u32::from), Some(3));
    assert!(status.enabled);
    assert_eq!(
        worker.base_job_template,
        Some(place.path().join("cwd/t.json"))
    );
    assert!(!worker.create_pool_if_not_found);
    assert_eq!(worker.state_dir, Path::new("/s"));
    assert_eq!(api.url.map(String::from).as_deref(), Some("http://h:1/api"));
    assert_eq!(worker.query_interval, Duration::from_mins(1));
    assert_eq!(worker.start_concurrency.get(), 9);
    assert_eq!(worker.drain_timeout, Some(Duration::ZERO));
    assert_eq!(worker.stop_grace, Duration::from_secs(1));
    assert_eq!((status.host, status.port), (IpAddr::from([0, 0, 0, 0]), 9));
    assert_eq!(logging.level, "worker=debug,warn");
    assert!(logging.json);
    assert_eq!(process.python.as_deref(), Some(Path::new("python3")));
    assert_eq!(pull.mode, PullMode::Job);
    assert_eq!(pull.workspaces, Some(place.path().join("cwd/w")));
    assert_eq!(pull.disk_floor, DiskFloor::Percent(5.0));
    assert_eq!((server.host.to_string().as_str(), server.port), ("::1", 10));
}

#[test]
fn every_error_is_told_at_once_with_its_place() {
    let place = Place::new()
        .file("cwd/prefect.toml", "[worker]\nheartbeat_seconds = 'often'\n")
        .config(
            "[worker]\nlimit = 0\nquerry_interval = 5\nname = 'a/b'\n[statsu]\nport = 1\n[status]\nhost = 'example.org'\nnothing = 1\n[api]\nkey = 5\nurl = 'ftp://h'\n[server]\nhost = '0.0.0.0'\n",
        )
        .var("PREFECT_API_REQUEST_TIMEOUT", "0")
        .var("PREFECT_SERVER_API_PORT", "many")
        .var("WORKER_LOGGING_LEVEL", "loud")
        .flags(Flags {
            kinds: vec!["ecs".into()],
            drain_timeout: Some("soon".into()),
            profile: Some("locla".into()),
            ..Flags::default()
        });
    insta::assert_snapshot!(place.errors());
}

#[test]
fn one_error_is_one_line() {
    let place = Place::new().config("[worker]\nlimit = 'x'\n");
    insta::assert_snapshot!(place.errors(), @"configuration: worker.limit in /cwd/worker.toml: must be a whole number, at least 1, is 'x'");
}

#[test]
fn errors_show_no_secrets() {
    let secret = "s3cr3t";
    let place = Place::new()
        .config(&format!("[api]\nkey = ['{secret}']\nauth_string = ['{secret}']\nurl = 'x://u:{secret}@h'\ncustom_headers = '{secret}'\n[server]\ntoken = ['{secret}']\n"))
        .var("PREFECT_CLIENT_CUSTOM_HEADERS", "s3cr3t");
    let errors = place.errors();
    assert_eq!(errors.lines().count(), 6, "{errors}");
    assert!(!errors.contains(secret), "{errors}");
    let broken = Place::new().config(&format!("[api]\nkey = \"{secret}\n"));
    assert!(!broken.errors().contains(secret), "{}", broken.errors());
    let fine = Place::new()
        .config(&format!("[api]\nkey = '{secret}'\n"))
        .settings();
    assert!(!format!("{fine:?}").contains(secret));
    assert_eq!(fine.api.key, Some(Secret::new(secret)));
}

#[test]
fn a_file_that_is_not_toml_is_an_error_with_its_line() {
    let place = Place::new().config("[worker]\n\nlimit = = 5\n");
    let errors = place.errors();
    assert!(
        errors.starts_with("configuration: /cwd/worker.toml line 3: is not valid TOML: "),
        "{errors}"
    );
}

#[test]
fn a_named_file_must_exist() {
    let by_flag = Place::new().flags(Flags {
        config: Some("no.toml".into()),
        ..Flags::default()
    });
    assert_eq!(
        by_flag.errors(),
        "configuration: flag --config: there is no file /cwd/no.toml"
    );
    let by_variable = Place::new().var("WORKER_CONFIG", "/no.toml");
    assert_eq!(
        by_variable.errors(),
        "configuration: environment variable WORKER_CONFIG: there is no file /no.toml"
    );
}

#[test]
fn the_first_file_that_exists_counts() {
    let limit = |place: &Place| place.settings().worker.limit.map(u32::from);
    let mut place = Place::new().file("home/.config/worker/worker.toml", "[worker]\nlimit = 1\n");
    assert_eq!(limit(&place), Some(1));
    place = place
        .file("xdg/worker/worker.toml", "[worker]\nlimit = 2\n")
        .var("XDG_CONFIG_HOME", "$ROOT/xdg");
    assert_eq!(limit(&place), Some(2));
    place = place.config("[worker]\nlimit = 3\n");
    assert_eq!(limit(&place), Some(3));
    place = place
        .file("four.toml", "[worker]\nlimit = 4\n")
        .var("WORKER_CONFIG", "$ROOT/four.toml");
    assert_eq!(limit(&place), Some(4));
}

#[test]
fn paths_start_from_the_file_they_are_written_in() {
    let place = Place::new()
        .file(
            "etc/worker.toml",
            "[worker]\nstate_dir = 'state'\nbase_job_template = '~/t.json'\n[process]\npython = 'venv/bin/python'\n",
        )
        .var("WORKER_CONFIG", "../etc/worker.toml");
    let settings = place.settings();
    let etc = place.path().join("cwd/../etc");
    assert_eq!(settings.worker.state_dir, etc.join("state"));
    assert_eq!(settings.process.python, Some(etc.join("venv/bin/python")));
    assert_eq!(
        settings.worker.base_job_template,
        Some(place.path().join("home/t.json"))
    );
}

#[test]
fn the_state_directory_is_where_the_system_wants_it() {
    let state_dir = |place: &Place| place.settings().worker.state_dir;
    let mut place = Place::new();
    place.sources.home = None;
    assert_eq!(state_dir(&place), Path::new("/var/lib/worker"));
    place = place.var("XDG_STATE_HOME", "relative");
    assert_eq!(state_dir(&place), Path::new("/var/lib/worker"));
    place = place.var("XDG_STATE_HOME", "/x");
    assert_eq!(state_dir(&place), Path::new("/x/worker"));
    place = place.var("STATE_DIRECTORY", "/run/a:/run/b");
    assert_eq!(state_dir(&place), Path::new("/run/a"));
}

#[test]
fn the_embedded_api_alone_has_the_port_people_know() {
    let serve = |port| Flags {
        serve: true,
        server_port: port,
        ..Flags::default()
    };
    assert_eq!(Place::new().flags(serve(None)).settings().server.port, 4200);
    assert_eq!(Place::new().flags(serve(Some(0))).settings().server.port, 0);
    let place = Place::new()
        .flags(serve(None))
        .config("[server]\nport = 5000\n");
    assert_eq!(place.settings().server.port, 5000);
}

#[test]
fn an_address_others_can_reach_needs_a_token() {
    let open = Place::new().config("[server]\nhost = '::'\n");
    assert!(
        open.errors().contains("there must be a token"),
        "{}",
        open.errors()
    );
    let guarded = open.var("WORKER_SERVER_TOKEN", "t");
    assert_eq!(guarded.settings().server.token, Some(Secret::new("t")));
}

#[test]
fn the_reference_variables_mean_what_they_mean_to_it() {
    let place = Place::new()
        .var("PREFECT_API_URL", "http://h/api")
        .var("prefect_api_key", " k\n")
        .var("PREFECT_API_AUTH_STRING", "")
        .var("PREFECT_WORKER_HEARTBEAT_SECONDS", "12.5")
        .var("PREFECT_WORKER_PREFETCH_SECONDS", "0")
        .var("PREFECT_WORKER_CANCELLATION_POLL_SECONDS", "60")
        .var("PREFECT_WORKER_WEBSERVER_HOST", "0.0.0.0")
        .var("PREFECT_WORKER_WEBSERVER_PORT", "9000")
        .var("PREFECT_LOGGING_LEVEL", "warning")
        .var("PREFECT_LOGGING_TO_API_ENABLED", "off")
        .var("PREFECT_LOGGING_TO_API_BATCH_INTERVAL", "0.5")
        .var("PREFECT_LOGGING_TO_API_BATCH_SIZE", "2000")
        .var("PREFECT_LOGGING_TO_API_MAX_LOG_SIZE", "1000")
        .var("PREFECT_CLIENT_MAX_RETRIES", "0")
        .var("PREFECT_CLIENT_RETRY_EXTRA_CODES", "500,404")
        .var("PREFECT_CLIENT_RETRY_JITTER_FACTOR", "0.5")
        .var("PREFECT_CLIENT_CSRF_SUPPORT_ENABLED", "false")
        .var("PREFECT_CLIENT_CUSTOM_HEADERS", r#"{"X-A": "1"}"#)
        .var("SSL_CERT_FILE", "/ca.pem");
    let Settings {
        api,
        worker,
        status,
        logging,
        notices,
        ..
    } = place.settings();
    assert_eq!(api.url.map(String::from).as_deref(), Some("http://h/api"));
    assert_eq!(api.key, Some(Secret::new("k")));
    assert_eq!(api.auth_string, None);
    assert_eq!(api.max_retries, 0);
    assert_eq!(api.retry_extra_codes, [404, 500]);
    assert!((api.retry_jitter_factor - 0.5).abs() < f64::EPSILON);
    assert!(!api.csrf_support);
    assert_eq!(
        api.custom_headers,
        BTreeMap::from([("X-A".to_owned(), Secret::new("1"))])
    );
    assert_eq!(api.ssl_cert_file.as_deref(), Some(Path::new("/ca.pem")));
    assert_eq!(worker.heartbeat_interval, Duration::from_millis(12_500));
    assert_eq!(worker.prefetch, Duration::ZERO);
    assert_eq!(worker.cancellation_interval, Duration::from_mins(1));
    assert_eq!(
        (status.host, status.port),
        (IpAddr::from([0, 0, 0, 0]), 9000)
    );
    assert!(!status.enabled);
    assert_eq!(logging.level, "warn");
    assert!(!logging.to_api);
    assert_eq!(logging.batch_interval, Duration::from_millis(500));
    assert_eq!((logging.batch_size, logging.max_log_size), (2000, 1000));
    assert_eq!(notices, Vec::<String>::new());
}

#[test]
fn debug_mode_wins_over_the_level_of_prefect_but_not_over_ours() {
    let debug = |name| {
        Place::new()
            .var(name, "1")
            .var("PREFECT_LOGGING_LEVEL", "ERROR")
    };
    for name in ["PREFECT_DEBUG_MODE", "PREFECT_WORKER_DEBUG_MODE"] {
        assert_eq!(debug(name).settings().logging.level, "debug");
        let ours = debug(name).var("WORKER_LOGGING_LEVEL", "info");
        assert_eq!(ours.settings().logging.level, "info");
    }
}

#[test]
fn a_line_is_not_larger_than_a_batch() {
    let place = Place::new().var("PREFECT_LOGGING_TO_API_BATCH_SIZE", "10");
    insta::assert_snapshot!(place.errors(), @"configuration: logging.max_log_size: must not be more than logging.batch_size: 1000000 is more than 10");
}

#[test]
fn a_profile_that_was_asked_for_must_exist() {
    let file = "[profiles.prod]\nPREFECT_API_URL = 'http://p/api'\n";
    let place = Place::new()
        .file("home/.prefect/profiles.toml", file)
        .var("PREFECT_PROFILE", "prud");
    insta::assert_snapshot!(place.errors(), @"configuration: environment variable PREFECT_PROFILE: there is no profile 'prud'; did you mean 'prod'?");
    let flag = Flags {
        profile: Some("prod".into()),
        ..Flags::default()
    };
    let settings = place.flags(flag).settings();
    assert_eq!(
        settings.api.url.map(String::from).as_deref(),
        Some("http://p/api")
    );
}

#[test]
fn an_active_profile_that_does_not_exist_is_told() {
    let place = Place::new().file(
        "home/.prefect/profiles.toml",
        "active = 'gone'\n[profiles.prod]\n",
    );
    assert_eq!(
        place.notices(),
        [
            "the active Prefect profile 'gone' does not exist; known are prod, ephemeral, local, test, cloud"
        ]
    );
}

#[test]
fn profiles_that_come_with_prefect_need_no_file() {
    let settings = Place::new().var("PREFECT_PROFILE", "local").settings();
    assert_eq!(
        settings.api.url.map(String::from).as_deref(),
        Some("http://127.0.0.1:4200/api")
    );
    let settings = Place::new().var("PREFECT_PROFILE", "ephemeral").settings();
    assert_eq!(settings.api.url, None);
}

#[test]
fn only_spelling_mistakes_are_noticed() {
    let place = Place::new()
        .file(
            "cwd/prefect.toml",
            "[worker]\nquery_second = 5\n[other]\nx = 1\n",
        )
        .file(
            "home/.prefect/profiles.toml",
            "active = 'p'\n[profiles.p]\nPREFECT_API_URI = 'x'\n",
        )
        .var("PREFECT_WORKER_QUERY_SECOND", "5")
        .var("PREFECT_SERVER_PORT_4200_TCP", "x")
        .var("PREFECT__FLOW_RUN_ID", "x")
        .var("PREFECT_PROFILE", "p")
        .var("WORKER_POOOL", "x")
        .var("WORKER_CLASS", "x")
        .var("WORKER_CONNECTIONS", "x");
    assert_eq!(
        place.notices(),
        [
            "worker.query_second in /cwd/prefect.toml: unknown setting, did you mean 'worker.query_seconds'?",
            "PREFECT_API_URI in profile 'p' of /home/.prefect/profiles.toml: unknown, did you mean PREFECT_API_URL?",
            "environment variable PREFECT_WORKER_QUERY_SECOND: unknown, did you mean PREFECT_WORKER_QUERY_SECONDS?",
            "environment variable WORKER_POOOL: unknown, did you mean WORKER_POOL?",
        ]
    );
}

#[test]
fn known_settings_make_no_noise() {
    let mut place = Place::new();
    for setting in SETTINGS.iter() {
        place = place.var(&setting.variable(), "");
    }
    let Err(errors) = place.load() else {
        panic!("an empty number is wrong");
    };
    assert!(
        errors
            .0
            .iter()
            .all(|error| error.problem.starts_with("must be")),
        "{errors}"
    );
}

#[derive(Deserialize)]
struct JobEnvironment {
    what: String,
    environment: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    result: BTreeMap<String, String>,
}

#[test]
fn a_job_gets_the_settings_the_reference_would_give_it() {
    let cases: Vec<JobEnvironment> = serde_json::from_str(JOB_ENVIRONMENT).expect("a table");
    assert!(cases.len() > 20);
    for JobEnvironment {
        what,
        environment,
        files,
        result,
    } in cases
    {
        let mut place = Place::new();
        for (name, text) in files {
            place = place.file(&name, &text.replace("$HOME", "$ROOT/home"));
        }
        for (name, value) in environment {
            place = place.var(&name, &value.replace("$HOME", "$ROOT/home"));
        }
        let home = place.path().join("home").display().to_string();
        let expected: BTreeMap<_, _> = result
            .into_iter()
            .map(|(name, value)| (name, value.replace("$HOME", &home)))
            .collect();
        let settings = place.load().expect(&what);
        assert_eq!(exposed(&settings.job_environment), expected, "{what}");
    }
}

#[test]
fn a_job_reaches_the_api_that_this_worker_reaches() {
    let place = Place::new()
        .config("[api]\nurl = 'http://file/api'\nkey = 'file'\nrequest_timeout = '2m'\ncustom_headers = { X-A = 'b' }\n[worker]\nquery_interval = '5s'\n")
        .var("PREFECT_API_KEY", "env")
        .flags(Flags { api_url: Some("http://flag/api".into()), ..Flags::default() });
    let environment = exposed(&place.settings().job_environment);
    assert_eq!(
        json!(environment),
        json!({
            "PREFECT_API_KEY": "env",
            "PREFECT_API_REQUEST_TIMEOUT": "120.0",
            "PREFECT_API_URL": "http://flag/api",
            "PREFECT_CLIENT_CUSTOM_HEADERS": "{\"X-A\": \"b\"}",
            "PREFECT_SERVER_EPHEMERAL_ENABLED": "True",
        })
    );
}

#[test]
fn every_key_that_says_what_a_prefect_setting_says_names_one_that_exists() {
    for path in KEYS.iter().filter_map(|key| key.prefect) {
        assert!(
            SETTINGS.iter().any(|setting| setting.path == path),
            "{path}"
        );
    }
}

/// Pool, type and limit of each pool.
fn pools(settings: &Settings) -> Vec<(String, Option<DriverKind>, Option<u32>)> {
    let pools = settings.pools.iter().map(|own| {
        (
            own.pool.clone().expect("it is of a pool"),
            own.kind,
            own.limit.map(u32::from),
        )
    });
    pools.collect()
}

#[test]
fn what_is_said_of_one_pool_wins_over_what_is_said_of_all() {
    let flags = |limits: &[&str]| Flags {
        pools: vec!["b".into(), "a".into(), "b".into()],
        limits: limits.iter().map(|text| (*text).to_owned()).collect(),
        kinds: vec!["a=docker".into()],
        ..Flags::default()
    };
    let place = Place::new()
        .config("[worker]\nlimit = 9\n[pools.a]\nlimit = 2\n[pools.c]\nlimit = 1\n")
        .flags(flags(&[]));
    let docker = Some(DriverKind::Docker);
    assert_eq!(
        pools(&place.settings()),
        [
            ("b".to_owned(), None, Some(9)),
            ("a".to_owned(), docker, Some(2))
        ]
    );
    let place = place.flags(flags(&["5", "b=7", "a=3"]));
    assert_eq!(
        pools(&place.settings()),
        [
            ("b".to_owned(), None, Some(7)),
            ("a".to_owned(), docker, Some(3))
        ]
    );
    let settings = place.settings();
    assert_eq!(settings.worker.pool.as_deref(), Some("b"));
    assert_eq!(settings.worker.limit.map(u32::from), Some(5));
    assert_eq!(settings.of_pool("a").worker.limit.map(u32::from), Some(3));
}

#[test]
fn pools_are_named_by_sections_lists_and_commas_and_the_only_one_is_the_worker() {
    let sections = Place::new().config("[pools.x]\nlimit = 2\n[pools.y]\n");
    assert_eq!(
        pools(&sections.settings()),
        [
            ("x".to_owned(), None, Some(2)),
            ("y".to_owned(), None, None)
        ]
    );
    let list = Place::new().config("[worker]\npool = ['one, two', 'three']\n");
    let names: Vec<_> = pools(&list.settings())
        .into_iter()
        .map(|own| own.0)
        .collect();
    assert_eq!(names, ["one, two", "three"]);
    let commas = Place::new().var("WORKER_POOL", "one, two");
    let names: Vec<_> = pools(&commas.settings())
        .into_iter()
        .map(|own| own.0)
        .collect();
    assert_eq!(names, ["one", "two"]);
    let only = sections.var("WORKER_POOL", "x").settings();
    assert_eq!(only.worker.limit.map(u32::from), Some(2));
    assert_eq!(only.pools, [only.worker.clone()]);
}

#[test]
fn what_is_wrong_with_several_pools_is_said_once() {
    let place = Place::new().config(
        "[worker]\npool = ['a', 'b']\nlimit = 0\n[pools.a]\nlimt = 1\nlimit = 'x'\n[pools]\nc = 1\n",
    );
    insta::assert_snapshot!(place.errors(), @r"
    configuration: 4 errors
      pools.a.limt in /cwd/worker.toml: cannot be said of one pool alone; did you mean 'limit'?
      [pools.c] in /cwd/worker.toml: must be a section
      worker.limit in /cwd/worker.toml: must be a whole number, at least 1, is 0
      pools.a.limit in /cwd/worker.toml: must be a whole number, at least 1, is 'x'
    ");
}
