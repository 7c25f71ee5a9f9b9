//! The alerts: Prometheus takes them, and each fires for what it is about and for nothing else.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::chart;

/// What a worker says in an hour, as Prometheus scrapes it each minute: a series and how it goes on.
type Series = (&'static str, &'static str);

/// A worker that polls, has a free slot and starts what is due.
const WELL: [Series; 5] = [
    (
        r#"worker_polls_total{namespace="n",pod="p",pool="demo",driver="kubernetes",result="empty"}"#,
        "0+6x60",
    ),
    (
        r#"worker_flow_runs{namespace="n",pod="p",pool="demo",driver="kubernetes",phase="running"}"#,
        "1x60",
    ),
    (
        r#"worker_slots_limit{namespace="n",pod="p",pool="demo",driver="kubernetes"}"#,
        "2x60",
    ),
    (
        r#"worker_schedule_lag_seconds_bucket{namespace="n",pod="p",pool="demo",driver="kubernetes",le="1"}"#,
        "0+3x60",
    ),
    (
        r#"worker_schedule_lag_seconds_bucket{namespace="n",pod="p",pool="demo",driver="kubernetes",le="+Inf"}"#,
        "0+3x60",
    ),
];

/// What else is the case, and the one alert for it.
const CASES: [(&str, &[Series]); 4] = [
    (
        "WorkerDoesNotPoll",
        &[(
            r#"worker_polls_total{namespace="n",pod="p",pool="demo",driver="kubernetes",result="empty"}"#,
            "7x60",
        )],
    ),
    (
        "WorkerIsFull",
        &[(
            r#"worker_flow_runs{namespace="n",pod="p",pool="demo",driver="kubernetes",phase="running"}"#,
            "2x60",
        )],
    ),
    (
        "FlowRunsStartLate",
        &[
            (
                r#"worker_schedule_lag_seconds_bucket{namespace="n",pod="p",pool="demo",driver="kubernetes",le="1"}"#,
                "0x60",
            ),
            (
                r#"worker_schedule_lag_seconds_bucket{namespace="n",pod="p",pool="demo",driver="kubernetes",le="600"}"#,
                "0+3x60",
            ),
        ],
    ),
    (
        "JobsNeverStart",
        &[(
            r#"worker_jobs_finished_total{namespace="n",pod="p",pool="demo",driver="kubernetes",outcome="never_started"}"#,
            "0+1x60",
        )],
    ),
];

fn promtool(arguments: &[&str], directory: &Path) -> String {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("promtool is installed; `tests/helm/set-up` does it");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// The rules as Prometheus reads them. JSON is YAML.
fn rules() -> Value {
    let values = chart::at("metrics.prometheusRule.enabled", json!(true));
    chart::render(&chart::with(&values)).one("PrometheusRule")["spec"].clone()
}

/// A worker with other series over those of one that is well, at whose end these alerts fire.
fn case(over: &[Series], firing: &[&str]) -> Value {
    let mut series: Vec<Series> = WELL.to_vec();
    for (name, values) in over {
        series.retain(|(known, _)| known != name);
        series.push((name, values));
    }
    let series: Vec<Value> = series
        .iter()
        .map(|(series, values)| json!({"series": series, "values": values}))
        .collect();
    let alerts = CASES.map(|(alert, _)| {
        let fires = i32::from(firing.contains(&alert));
        // The annotations are prose; that an alert fires is what counts.
        let expr =
            format!(r#"count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)"#);
        json!({"expr": expr, "eval_time": "1h", "exp_samples": [{"labels": "{}", "value": fires}]})
    });
    json!({"interval": "1m", "input_series": series, "promql_expr_test": alerts})
}

#[test]
fn each_alert_fires_for_what_it_is_about_and_for_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let write = |name: &str, value: &Value| {
        fs::write(directory.path().join(name), value.to_string()).expect("a file can be written");
    };
    let rules = rules();
    write("rules.yml", &rules);
    let said = promtool(&["check", "rules", "rules.yml"], directory.path());
    assert!(
        said.contains(&format!("SUCCESS: {} rules found", CASES.len())),
        "{said}"
    );
    let mut tests = vec![case(&[], &[])];
    tests.extend(CASES.map(|(alert, over)| case(over, &[alert])));
    write(
        "tests.yml",
        &json!({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}),
    );
    promtool(&["test", "rules", "tests.yml"], directory.path());
}
