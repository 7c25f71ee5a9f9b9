//! Jobs with a real Python: an image that is a skeleton, which gets this machine's Python with all that belongs to it.

use serde_json::{Value, json};
use worker_tests::prefect::Python;

/// Values of a pool's variables with which its jobs have a Python with Prefect, and the flows of `flows.py` in `/opt/prefect/flows`.
pub(crate) fn defaults(python: &Python) -> Value {
    let base = std::fs::canonicalize(python.bin().join("python")).expect("there is a Python");
    let base = base
        .ancestors()
        .nth(2)
        .expect("it is in a bin of something")
        .to_owned();
    let mut mounts = vec!["/usr:/usr:ro".to_owned()];
    for folder in [python.root(), &base] {
        if !folder.starts_with("/usr") {
            mounts.push(format!("{0}:{0}:ro", folder.display()));
        }
    }
    json!({
        "image": "worker-test/python:1",
        "image_pull_policy": "Never",
        "volumes": mounts,
        "env": {"PATH": python.path()},
    })
}

/// The pull steps of a deployment whose code is in the image.
pub(crate) fn baked_in() -> Value {
    json!([{"prefect.deployments.steps.set_working_directory": {"directory": "/opt/prefect/flows"}}])
}
