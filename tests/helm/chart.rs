//! The chart, and what Helm makes of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use worker_tests::files::root;

/// The release's name in these tests.
pub(crate) const RELEASE: &str = "release";

/// What a chart makes of values.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// As Helm wrote it.
    pub(crate) text: String,
    /// The objects.
    pub(crate) objects: Vec<Value>,
}

// === impl Rendered ===

impl Rendered {
    /// The only object of a kind.
    #[track_caller]
    pub(crate) fn one(&self, kind: &str) -> &Value {
        let found = self.all(kind);
        assert_eq!(found.len(), 1, "objects of kind {kind} in {}", self.text);
        found[0]
    }

    /// The objects of a kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<&Value> {
        self.objects
            .iter()
            .filter(|object| object["kind"] == kind)
            .collect()
    }

    /// The specs of all pods that it starts.
    pub(crate) fn pods(&self) -> Vec<&Value> {
        ["Deployment", "StatefulSet"]
            .iter()
            .flat_map(|kind| self.all(kind))
            .map(|object| &object["spec"]["template"]["spec"])
            .collect()
    }
}

// === functions ===

/// The chart's folder.
pub(crate) fn folder() -> PathBuf {
    root().join("deploy/helm/worker")
}

/// The values that every release needs: a pool, and an API.
pub(crate) fn needed() -> Value {
    json!({"worker": {
        "config": {"workPool": "pool"},
        "apiConfig": "selfHostedServer",
        "selfHostedServerApiConfig": {"apiUrl": "http://prefect.example:4200/api"},
    }})
}

/// The needed values with others over them, as Helm merges files of values.
pub(crate) fn with(values: &Value) -> Value {
    let mut all = needed();
    merge(&mut all, values);
    all
}

/// A value at a path, as in `worker.config.limit`.
pub(crate) fn at(path: &str, value: Value) -> Value {
    path.rsplit('.')
        .fold(value, |value, name| json!({ name: value }))
}

/// Values over others: maps are merged, all else is replaced.
pub(crate) fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                merge(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

/// What the chart makes of these values.
#[track_caller]
pub(crate) fn render(values: &Value) -> Rendered {
    try_render(values).unwrap_or_else(|error| panic!("{values} cannot be rendered: {error}"))
}

/// What the chart makes of these values, or what Helm says of them.
pub(crate) fn try_render(values: &Value) -> Result<Rendered, String> {
    // A cluster with the Prometheus operator and today's kinds; Helm alone knows of those of its own time only.
    let known = ["autoscaling/v2", "policy/v1/PodDisruptionBudget"];
    let mut arguments = vec!["template", RELEASE];
    for version in known {
        arguments.extend(["--api-versions", version]);
    }
    let text = helm(&arguments, &folder(), values)?;
    let objects = serde_saphyr::from_multiple(&text)
        .unwrap_or_else(|error| panic!("{error} in what is rendered:\n{text}"));
    Ok(Rendered { text, objects })
}

/// Runs Helm on a chart with these values.
pub(crate) fn helm<S: AsRef<str>>(
    arguments: &[S],
    chart: &Path,
    values: &Value,
) -> Result<String, String> {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("values.json");
    fs::write(&file, values.to_string()).expect("values can be written");
    let mut all: Vec<String> = arguments.iter().map(|it| it.as_ref().to_owned()).collect();
    all.push(chart.display().to_string());
    all.extend(["--values".to_owned(), file.display().to_string()]);
    run(&all)
}

/// Runs Helm.
pub(crate) fn run(arguments: &[String]) -> Result<String, String> {
    let program = std::env::var("WORKER_TEST_HELM").unwrap_or_else(|_| {
        panic!(
            "WORKER_TEST_HELM is not set; `tests/helm/set-up` fetches a Helm and says where it is"
        )
    });
    let directory = tempfile::tempdir().expect("a directory can be made");
    let output = Command::new(program)
        .args(arguments)
        // Nothing of the person's own Helm.
        .env("HELM_CONFIG_HOME", directory.path())
        .env("HELM_CACHE_HOME", directory.path())
        .env("HELM_DATA_HOME", directory.path())
        .output()
        .expect("Helm can be run");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).expect("Helm writes UTF-8"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
