use std::{path::Path, time::Duration};

use serde_json::json;

use super::{CollisionStrategy, ConcurrencyLimit, DeploymentEntry, Manifest, Steps, Timing};

fn parse(text: &str) -> Manifest {
    match Manifest::parse(Path::new("prefect.yaml"), text) {
        Ok(manifest) => manifest,
        Err(errors) => panic!("{errors}"),
    }
}

fn errors(text: &str) -> String {
    let errors = Manifest::parse(Path::new("prefect.yaml"), text);
    errors.expect_err("something wrong").to_string()
}

fn only(text: &str) -> DeploymentEntry {
    let mut manifest = parse(text);
    assert_eq!(manifest.deployments.len(), 1);
    manifest.deployments.remove(0)
}

const WHOLE: &str = r#"
name: shop
prefect-version: 3
definitions:
  daily: &daily
    cron: "0 6 * * *"
    timezone: Europe/Berlin
  pool: &pool
    name: docker-pool
    job_variables: {image: "shop:1"}
build: null
pull:
  - prefect.deployments.steps.git_clone:
      id: clone
      repository: https://example.org/shop.git
      branch: main
deployments:
  - name: nightly
    entrypoint: flows/shop.py:nightly
    version: "1.2"
    version_type: vcs:git
    tags: [shop, "{{ tag }}"]
    description: Counts the stock.
    parameters: {day: null, limit: 5, ratio: 0.5}
    schedules:
      - *daily
      - {interval: 3600, anchor_date: "2026-01-01", slug: hourly, active: false}
      - {rrule: "FREQ=DAILY", parameters: {limit: 1}, replaces: old}
      - {}
    paused: false
    concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW, grace_period_seconds: 120}
    enforce_parameter_schema: true
    work_pool:
      <<: *pool
      work_queue_name: high
    pull: []
    triggers: [{type: event}]
  - name: plain
    work_pool: *pool
    concurrency_limit: 3
    push: null
    build:
      prefect.deployments.steps.run_shell_script: {script: make}
"#;

#[test]
fn a_whole_file_is_read() {
    let manifest = parse(WHOLE);
    assert_eq!(manifest.name.as_deref(), Some("shop"));
    assert_eq!(manifest.build, Steps::Null);
    assert_eq!(manifest.push, Steps::Absent);
    assert_eq!(manifest.notices, Vec::<String>::new());
    let [nightly, plain] = manifest.deployments.as_slice() else {
        panic!("two deployments");
    };
    assert_eq!(nightly.line, 18);
    assert_eq!(nightly.entrypoint.as_deref(), Some("flows/shop.py:nightly"));
    assert_eq!(nightly.version.as_deref(), Some("1.2"));
    assert_eq!(nightly.tags, ["shop", "{{ tag }}"]);
    assert_eq!(
        json!(nightly.parameters),
        json!({"day": null, "limit": 5, "ratio": 0.5})
    );
    assert_eq!(
        (nightly.paused, nightly.enforce_parameter_schema),
        (Some(false), Some(true))
    );
    let pool = nightly.work_pool.as_ref().expect("a pool");
    assert_eq!(pool.name.as_deref(), Some("docker-pool"));
    assert_eq!(pool.work_queue_name.as_deref(), Some("high"));
    assert_eq!(json!(pool.job_variables), json!({"image": "shop:1"}));
    assert_eq!(
        nightly.concurrency_limit,
        Some(ConcurrencyLimit {
            limit: Some(1),
            collision_strategy: Some(CollisionStrategy::CancelNew),
            grace_period: Some(Duration::from_mins(2)),
        })
    );
    assert_eq!(nightly.triggers.len(), 1);
    assert_eq!(
        plain
            .concurrency_limit
            .as_ref()
            .and_then(|limit| limit.limit),
        Some(3)
    );
    assert_eq!(plain.schedules, None);
}

#[test]
fn schedules_are_read_in_each_of_their_shapes() {
    let manifest = parse(WHOLE);
    let schedules = manifest.deployments[0]
        .schedules
        .as_deref()
        .expect("schedules");
    let [cron, interval, rrule] = schedules else {
        panic!("an empty one is none: {schedules:?}");
    };
    assert_eq!(
        cron.timing,
        Timing::Cron {
            cron: "0 6 * * *".into(),
            day_or: None
        }
    );
    assert_eq!(cron.timezone.as_deref(), Some("Europe/Berlin"));
    assert_eq!(
        interval.timing,
        Timing::Interval {
            interval: Duration::from_hours(1),
            anchor_date: Some("2026-01-01".into())
        }
    );
    assert_eq!(
        (interval.slug.as_deref(), &interval.active),
        (Some("hourly"), &Some(json!(false)))
    );
    assert_eq!(rrule.timing, Timing::Rrule("FREQ=DAILY".into()));
    assert_eq!(json!(rrule.parameters), json!({"limit": 1}));
    assert_eq!(rrule.replaces.as_deref(), Some("old"));
    let native = only(
        "deployments: [{schedules: [{schedule: {interval: 60, timezone: UTC}, active: '{{ on }}'}]}]",
    );
    let schedules = native.schedules.expect("schedules");
    assert_eq!(schedules[0].timezone.as_deref(), Some("UTC"));
    assert_eq!(schedules[0].active, Some(json!("{{ on }}")));
    let older = only("deployments: [{schedule: {cron: '* * * * *', day_or: true}}]");
    assert_eq!(older.schedules.map(|all| all.len()), Some(1));
    let none = only("deployments: [{schedules: null}]");
    assert_eq!(none.schedules, Some(Vec::new()));
}

#[test]
fn intervals_are_seconds_or_durations() {
    for (text, seconds) in [
        ("90", 90),
        ("'90'", 90),
        ("1.5", 1),
        ("01:30:00", 5_400),
        ("PT1H30M", 5_400),
        ("P1D", 86_400),
    ] {
        let entry = only(&format!(
            "deployments: [{{schedules: [{{interval: {text}}}]}}]"
        ));
        let schedules = entry.schedules.expect("schedules");
        let Timing::Interval { interval, .. } = &schedules[0].timing else {
            panic!("an interval");
        };
        assert_eq!(interval.as_secs(), seconds, "{text}");
    }
    for text in ["0", "-5", "1:30", "soon", "P1M", "99:99:99", "true"] {
        let text = format!("deployments: [{{schedules: [{{interval: {text}}}]}}]");
        assert!(
            errors(&text).contains("must be a number of seconds"),
            "{text}"
        );
    }
}

#[test]
fn absent_null_and_empty_steps_are_three_things() {
    let manifest = parse(
        "build: [{a: {}}]\npull: [{b: {}}]\ndeployments:\n- name: absent\n- {name: 'null', build: null, pull: {}}\n- {name: empty, build: [], pull: []}\n- {name: own, build: {c: {x: 1}}}\n",
    );
    let build = |at: usize| {
        manifest
            .build_steps(&manifest.deployments[at])
            .map(|steps| json!(steps))
    };
    let pull = |at: usize| {
        manifest
            .pull_steps(&manifest.deployments[at])
            .map(|steps| json!(steps))
    };
    assert_eq!(
        (build(0), pull(0)),
        (Some(json!([{"a": {}}])), Some(json!([{"b": {}}])))
    );
    assert_eq!((build(1), pull(1)), (None, None));
    assert_eq!((build(2), pull(2)), (Some(json!([])), Some(json!([]))));
    assert_eq!(
        (build(3), pull(3)),
        (Some(json!([{"c": {"x": 1}}])), Some(json!([{"b": {}}])))
    );
    assert_eq!(manifest.push_steps(&manifest.deployments[0]), None);
}

#[test]
fn everything_wrong_is_said_with_file_line_and_key() {
    let text = "
name: [a]
pull: 5
deployments:
  - name: 1.2
    tags: [a, 5]
    parameters: null
    paused: perhaps
    schedule: {cron: a}
    schedules: []
    concurrency_limit: many
    work_pool:
      name: {}
      job_variables: []
  - text
  - schedules:
      - {cron: a, interval: 5}
      - {cron: a, timezoen: UTC}
      - 5
    concurrency_limit: {collision_strategy: WAIT, grace_period_seconds: 5}
    build: [5]
";
    insta::assert_snapshot!(errors(text));
}

#[test]
fn what_is_no_yaml_is_said_with_its_line() {
    let broken = errors("name: a\ndeployments:\n  - name: 'x\n");
    assert!(broken.starts_with("prefect.yaml:"), "{broken}");
    assert!(broken.contains("is not valid YAML"), "{broken}");
    assert_eq!(broken.lines().count(), 1, "{broken}");
    assert_eq!(errors("- a\n"), "prefect.yaml:1: must be a mapping");
    assert_eq!(
        errors("deployments:\n"),
        "prefect.yaml:1: deployments: must be a list"
    );
    let missing = Manifest::read(Path::new("/nowhere/prefect.yaml")).expect_err("no such file");
    assert!(
        missing
            .to_string()
            .starts_with("/nowhere/prefect.yaml: cannot be read: "),
        "{missing}"
    );
}

#[test]
fn an_empty_file_is_a_manifest_without_deployments() {
    for text in ["", "# nothing\n", "{}", "null\n"] {
        assert_eq!(parse(text).deployments, Vec::new(), "{text:?}");
    }
}

#[test]
fn keys_nobody_reads_are_noticed_in_deployments_only() {
    let manifest = parse(
        "anything: 1\ndeployments:\n- name: a\n  entrypiont: b\n  work_pool:\n    name: p\n    queue: q\n",
    );
    assert_eq!(
        manifest.notices,
        [
            "prefect.yaml:4: deployments[0].entrypiont: unknown key, did you mean 'entrypoint'?",
            "prefect.yaml:7: deployments[0].work_pool.queue: unknown key",
        ]
    );
}

#[test]
fn a_key_that_is_written_twice_has_its_last_value() {
    assert_eq!(
        only("deployments: [{name: a, name: b}]").name.as_deref(),
        Some("b")
    );
}

#[test]
fn placeholders_stay_as_they_are_written() {
    let entry = only(
        "deployments: [{tags: '{{ tags }}', parameters: {a: '{{ b }}'}, work_pool: {job_variables: {env: {X: '{{ $X }}'}}}}]",
    );
    assert_eq!(entry.tags, ["{{ tags }}"]);
    assert_eq!(json!(entry.parameters), json!({"a": "{{ b }}"}));
    let pool = entry.work_pool.expect("a pool");
    assert_eq!(json!(pool.job_variables), json!({"env": {"X": "{{ $X }}"}}));
}
