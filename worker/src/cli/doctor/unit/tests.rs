use worker_drivers::Verdict;

use super::*;

/// What systemd 252 shows of the unit of `deploy/systemd`.
const BASE: &str = "\
ActiveState=active
Delegate=no
Environment=
ExecStart={ path=/usr/bin/worker ; argv[]=/usr/bin/worker --pool my-pool ; ignore_errors=no ; pid=12 ; code=(null) ; status=0/0 }
KillMode=mixed
LoadCredential=worker.api-key
LoadCredential=worker.auth-string
LoadState=loaded
NRestarts=0
NeedDaemonReload=no
PrivateTmp=yes
Restart=always
RestartPreventExitStatus=2 78
Result=success
SendSIGKILL=yes
StatusText=flow runs held: 0, of them starting: 0
Type=notify
WatchdogUSec=1min
";

/// What its drop-in for process pools changes.
const FOR_PROCESSES: [(&str, &str); 4] = [
    ("KillMode=mixed", "KillMode=process"),
    ("SendSIGKILL=yes", "SendSIGKILL=no"),
    ("PrivateTmp=yes", "PrivateTmp=no"),
    ("Delegate=no", "Delegate=yes"),
];

fn unit(changes: &[(&str, &str)]) -> Unit {
    let text = changes
        .iter()
        .fold(BASE.to_owned(), |text, (from, to)| text.replace(from, to));
    Unit::parse("worker@my-pool", &text)
}

/// The first words of what is not as it should be.
fn complaints(unit: &Unit, kind: DriverKind) -> Vec<(Verdict, String)> {
    let findings = unit.judge(&[kind]).into_iter();
    findings
        .filter(|finding| finding.verdict != Verdict::Ok)
        .map(|finding| {
            let first = finding.detail.split([':', ';']).next().unwrap_or_default();
            (finding.verdict, first.to_owned())
        })
        .collect()
}

#[test]
fn the_unit_that_we_ship_is_well() {
    let nothing: [(Verdict, String); 0] = [];
    assert_eq!(complaints(&unit(&[]), DriverKind::Kubernetes), nothing);
    assert_eq!(
        complaints(&unit(&FOR_PROCESSES), DriverKind::Process),
        nothing
    );
    let docker = unit(&[("Type=notify", "Type=notify\nSupplementaryGroups=docker")]);
    assert_eq!(complaints(&docker, DriverKind::Docker), nothing);
    let flags = unit(&[]).flags().expect("it is a worker's");
    assert_eq!(flags.pools, ["my-pool"]);
}

#[test]
fn a_unit_that_would_take_its_jobs_with_it_is_a_problem() {
    let said = complaints(&unit(&[]), DriverKind::Process);
    assert_eq!(said[0], (Verdict::Problem, "KillMode=mixed".to_owned()));
    assert!(
        said.contains(&(Verdict::Warning, "Delegate=no".to_owned())),
        "{said:?}"
    );
    assert!(
        said.contains(&(Verdict::Warning, "PrivateTmp=yes".to_owned())),
        "{said:?}"
    );
}

#[test]
fn whether_the_memory_of_jobs_is_accounted_is_told_while_the_unit_runs() {
    let said = |controllers: Option<&str>, state: &str| {
        let changes = [("ActiveState=active", state), FOR_PROCESSES[3]];
        let mut unit = unit(&changes);
        unit.controllers = controllers.map(str::to_owned);
        let findings = unit.judge(&[DriverKind::Process]).into_iter();
        findings
            .map(|finding| finding.detail)
            .find(|detail| detail.contains("Delegate=yes"))
            .expect("a word on groups")
    };
    let active = "ActiveState=active";
    assert!(said(Some("cpu memory\n"), active).ends_with("with their memory accounted"));
    assert!(said(Some("pids\n"), active).contains("is not accounted here"));
    for silent in [said(None, active), said(Some("\n"), "ActiveState=inactive")] {
        assert!(silent.ends_with("(Delegate=yes)"), "{silent}");
    }
}

#[test]
fn a_unit_that_hides_how_its_worker_is_is_told() {
    let bare = unit(&[
        ("Type=notify", "Type=simple"),
        ("WatchdogUSec=1min", "WatchdogUSec=0"),
        ("Restart=always", "Restart=no"),
        ("Environment=", "Environment=PREFECT_API_KEY=pnu_x A=b"),
    ]);
    let said = complaints(&bare, DriverKind::Kubernetes);
    let said: Vec<&str> = said.iter().map(|(_, words)| words.as_str()).collect();
    assert_eq!(
        said,
        [
            "Type=simple",
            "no watchdog",
            "Restart=no",
            "PREFECT_API_KEY is in its Environment, which everybody on this machine may read",
        ]
    );
    assert!(!format!("{:?}", bare.judge(&[])).contains("pnu_x"));
}

#[test]
fn a_unit_that_is_not_there_or_has_failed_is_a_problem() {
    let gone = unit(&[("LoadState=loaded", "LoadState=not-found")]);
    assert_eq!(complaints(&gone, DriverKind::Docker)[0].0, Verdict::Problem);
    let failed = unit(&[
        ("ActiveState=active", "ActiveState=failed"),
        ("Result=success", "Result=exit-code"),
    ]);
    let found = &failed.judge(&[])[0];
    assert_eq!(found.verdict, Verdict::Problem);
    assert!(found.detail.contains("journalctl"), "{found:?}");
}

#[test]
fn what_the_worker_of_a_unit_would_be_told_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("worker.env");
    fs::write(
        &file,
        "# settings\nPREFECT_API_URL=\"http://x/api\"\nWORKER_LIMIT = 3\n",
    )
    .unwrap();
    let files = format!(
        "Environment=A=b\nEnvironmentFiles={} (ignore_errors=yes)\nEnvironmentFiles=/nowhere/x.env (ignore_errors=yes)\nStateDirectory=worker/my-pool",
        file.display()
    );
    let unit = unit(&[
        ("Environment=", &files),
        (
            "LoadCredential=worker.api-key\nLoadCredential=worker.auth-string\n",
            "",
        ),
    ]);
    let found: Vec<String> = unit
        .environment()
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        found,
        [
            "A=b",
            "PREFECT_API_URL=http://x/api",
            "STATE_DIRECTORY=/var/lib/worker/my-pool",
            "WORKER_LIMIT=3",
        ]
    );
}

#[test]
fn every_pool_of_a_command_is_known_with_what_else_it_says() {
    let several = unit(&[
        (
            "--pool my-pool",
            "--pool boxes -p ${OTHER} --type boxes=docker --state-dir=/srv/state",
        ),
        ("Environment=", "Environment=OTHER=my-pool"),
    ]);
    let flags = several.flags().expect("it is a worker's");
    assert_eq!(flags.pools, ["boxes", "my-pool"]);
    assert_eq!(flags.kinds, ["boxes=docker"]);
    assert_eq!(flags.state_dir.as_deref(), Some(Path::new("/srv/state")));
    let findings = several.judge(&[DriverKind::Docker, DriverKind::Process]);
    let said = format!("{findings:?}");
    assert!(said.contains("KillMode=mixed"), "{said}");
    assert!(said.contains("group docker"), "{said}");

    let wrapped = unit(&[("argv[]=", "argv[]=/usr/bin/env A=b ")]);
    assert_eq!(wrapped.flags().expect("it is found").pools, ["my-pool"]);
    let other = unit(&[("/usr/bin/worker --pool my-pool", "/bin/sh -c 'worker -p x'")]);
    assert!(other.flags().is_none());
    let said = format!("{:?}", other.judge(&[]));
    assert!(said.contains("is not understood"), "{said}");
}

#[test]
fn what_the_worker_of_a_unit_has_from_elsewhere_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    fs::write(&file, "pnu_x\n").unwrap();
    let named = format!("LoadCredential=worker.api-key:{}", file.display());
    let mut unit = unit(&[
        ("LoadCredential=worker.api-key", &named),
        (
            "Type=notify",
            "Type=notify\nUser=root\nWorkingDirectory=!/srv",
        ),
    ]);
    unit.inherited = BTreeMap::from([("PATH".to_owned(), "/usr/bin".to_owned())]);
    let found = unit.environment();
    assert_eq!(found["PATH"], "/usr/bin");
    assert_eq!(found["PREFECT_API_KEY"], "pnu_x");
    assert_eq!(found["HOME"], "/root");
    assert!(!found.contains_key("CARGO_MANIFEST_DIR"));
    assert_eq!(unit.directory(), Path::new("/srv"));
}

#[test]
fn variables_of_a_command_are_filled_as_systemd_does() {
    let with = |line: &str| {
        unit(&[
            ("--pool my-pool", line),
            (
                "Environment=",
                "Environment=\"OPTIONS=--limit 3 --name 'a b'\" POOL=my-pool ONCE=${POOL}",
            ),
        ])
        .flags()
        .unwrap_or_else(|| panic!("not understood: {line}"))
    };
    let flags = with("--pool ${POOL} $OPTIONS $UNSET");
    assert_eq!(flags.pools, ["my-pool"]);
    assert_eq!(flags.name.as_deref(), Some("a b"));
    assert_eq!(
        with("--pool=${POOL}-${POOL}${UNSET}").pools,
        ["my-pool-my-pool"]
    );
    assert_eq!(with("--pool ${ONCE}").pools, ["${POOL}"]);
    assert_eq!(with("--pool a$$b").pools, ["a$b"]);
    assert_eq!(with("--pool x$POOL").pools, ["x$POOL"]);
}
