//! What a job manifest must have, and what is filled in where it has nothing.
//!
//! The reference computes a JSON patch from the manifest to the least it must be. What the patch would add is missing, what it would replace
//! is wrong; what the manifest has elsewhere with the same value counts as there, because the patch would move it (3.8.8).

use serde_json::{Map, Value, json};

use crate::{driver::DriverError, fields::refused};

/// The differences between a manifest and the least it must be.
#[derive(Default)]
struct Differences<'a> {
    /// Values that the least has not.
    spare: Vec<&'a Value>,
    /// Paths and values that the manifest has not.
    missing: Vec<(String, &'a Value)>,
    /// Paths and values of which the manifest has others.
    wrong: Vec<(String, &'a Value)>,
}

/// Fills in the parts of the metadata that are always there, and checks that a manifest is one that can run a flow.
pub(super) fn check(manifest: &mut Map<String, Value>, namespace: &str) -> Result<(), DriverError> {
    let metadata = manifest
        .entry("metadata")
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .ok_or_else(|| refused("job_manifest.metadata", "must be an object"))?;
    for (name, default) in [
        ("annotations", json!({})),
        ("labels", json!({})),
        ("namespace", namespace.into()),
    ] {
        metadata.entry(name).or_insert(default);
    }
    let least = least();
    let mut differences = Differences::default();
    differences.compare_objects(
        "",
        manifest,
        least.as_object().expect("it is written as an object"),
    );
    differences.judge()
}

/// The container that runs the flow: the first.
pub(super) fn main_container(
    manifest: &mut Map<String, Value>,
) -> Result<&mut Map<String, Value>, DriverError> {
    let pod = pod_template(manifest)?.get_mut("spec");
    pod.and_then(|pod| pod.get_mut("containers")?.get_mut(0)?.as_object_mut())
        .ok_or_else(|| refused("job_manifest", "has no container, which must be an object"))
}

/// The template of the job's pod.
pub(super) fn pod_template(
    manifest: &mut Map<String, Value>,
) -> Result<&mut Map<String, Value>, DriverError> {
    let spec = manifest.get_mut("spec");
    spec.and_then(|spec| spec.get_mut("template")?.as_object_mut())
        .ok_or_else(|| refused("job_manifest.spec.template", "must be an object"))
}

/// Puts an item at the end of a list.
pub(super) fn add(
    parent: &mut Map<String, Value>,
    list: &str,
    item: Value,
) -> Result<(), DriverError> {
    match parent.entry(list).or_insert_with(|| json!([])) {
        Value::Array(items) => {
            items.push(item);
            Ok(())
        }
        _ => Err(refused(&format!("job_manifest: {list}"), "must be a list")),
    }
}

/// The metadata of the job, which [`check`] has seen to.
pub(super) fn metadata(
    manifest: &mut Map<String, Value>,
) -> Result<&mut Map<String, Value>, DriverError> {
    let metadata = manifest.get_mut("metadata");
    metadata
        .and_then(Value::as_object_mut)
        .ok_or_else(|| refused("job_manifest.metadata", "must be an object"))
}

// === impl Differences ===

impl<'a> Differences<'a> {
    fn compare(&mut self, path: String, manifest: Option<&'a Value>, least: &'a Value) {
        match (manifest, least) {
            (None, least) => self.missing.push((path, least)),
            (Some(Value::Object(manifest)), Value::Object(least)) => {
                self.compare_objects(&path, manifest, least);
            }
            (Some(Value::Array(manifest)), Value::Array(least)) => {
                // The least has one item. One that is just that is taken, else the first.
                let one = least
                    .iter()
                    .find_map(|one| manifest.iter().position(|item| item == one));
                let chosen = one.unwrap_or_default();
                let others = manifest
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| *index != chosen);
                self.spare.extend(others.map(|(_, item)| item));
                for value in least {
                    self.compare(format!("{path}/{chosen}"), manifest.get(chosen), value);
                }
            }
            (Some(manifest), least) if manifest == least => {}
            (Some(_), least) => self.wrong.push((path, least)),
        }
    }

    fn compare_objects(
        &mut self,
        path: &str,
        manifest: &'a Map<String, Value>,
        least: &'a Map<String, Value>,
    ) {
        let spare = manifest
            .iter()
            .filter(|(name, _)| !least.contains_key(*name));
        self.spare.extend(spare.map(|(_, value)| value));
        for (name, value) in least {
            self.compare(format!("{path}/{name}"), manifest.get(name), value);
        }
    }

    fn judge(mut self) -> Result<(), DriverError> {
        self.missing.retain(|(_, value)| {
            let found = self.spare.iter().position(|spare| spare == value);
            found.map(|index| self.spare.swap_remove(index)).is_none()
        });
        let list = |found: &[(String, &Value)]| {
            let mut found: Vec<String> = found
                .iter()
                .map(|(path, value)| format!("{path} must be {value}"))
                .collect();
            found.sort();
            found.join(", ")
        };
        match (self.missing.as_slice(), self.wrong.as_slice()) {
            ([], []) => Ok(()),
            ([], wrong) => Err(refused(
                "job_manifest",
                format!("is not what it must be: {}", list(wrong)),
            )),
            (missing, _) => Err(refused(
                "job_manifest",
                format!("lacks what it must have: {}", list(missing)),
            )),
        }
    }
}

fn least() -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"annotations": {}, "labels": {}},
        "spec": {
            "template": {
                "spec": {
                    "parallelism": 1,
                    "completions": 1,
                    "restartPolicy": "Never",
                    "containers": [{"name": "prefect-job"}],
                },
            },
        },
    })
}
