//! Code that comes before the job: an init container with this program runs the pull steps into a directory that the job's container has too. Pure.

use serde_json::{Map, Value, json};

use super::manifest::{add, main_container, pod_template};
use crate::{driver::DriverError, fields::refused};

/// An image with this program in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullImage(pub String);

/// Where the code is, in both containers: a link to wherever the pull steps end.
const CODE: &str = "/opt/prefect/workspace/code";
/// What both containers mount.
const MOUNT: &str = "/opt/prefect/workspace";
const VOLUME: &str = "prefect-workspace";
/// The init container.
const CONTAINER: &str = "prefect-pull";

/// The job configuration's field that has the code brought.
pub const FIELD: &str = "pulled_by_init_container";

/// Has the pull steps run before the job's container starts, which starts where they end.
pub(super) fn bring_code(
    manifest: &mut Map<String, Value>,
    image: &PullImage,
) -> Result<(), DriverError> {
    let mount = json!({"name": VOLUME, "mountPath": MOUNT});
    let main = main_container(manifest)?;
    // Whatever the image may read and write as, the init container must too.
    let mut init = json!({
        "name": CONTAINER,
        "image": image.0,
        "args": ["pull", "--deployment", "$(PREFECT__DEPLOYMENT_ID)", "--into", format!("{MOUNT}/steps"), "--link", CODE],
        "env": main.get("env").cloned().unwrap_or_else(|| json!([])),
        "volumeMounts": [mount],
        // Why it failed is said where it is looked for.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    for shared in ["envFrom", "securityContext", "imagePullPolicy"] {
        if let Some(said) = main.get(shared) {
            init[shared] = said.clone();
        }
    }
    main.insert("workingDir".to_owned(), CODE.into());
    add(main, "volumeMounts", mount)?;
    let pod = pod_template(manifest)?.get_mut("spec");
    let Some(Value::Object(pod)) = pod else {
        return Err(refused(
            "job_manifest.spec.template.spec",
            "must be an object",
        ));
    };
    add(pod, "volumes", json!({"name": VOLUME, "emptyDir": {}}))?;
    // After those that others have put there: one may bring what reaching a repository takes.
    add(pod, "initContainers", init)
}

/// Has the job's container run Prefect's engine, without a runner before it: it finds the flow by its entrypoint, and runs the flow's hooks itself.
pub(super) fn run_engine(
    manifest: &mut Map<String, Value>,
    entrypoint: &str,
) -> Result<(), DriverError> {
    let main = main_container(manifest)?;
    main.insert("args".to_owned(), json!(["python", "-m", "prefect.engine"]));
    let variables = main.entry("env").or_insert_with(|| json!([]));
    if let Value::Array(variables) = variables {
        let ours = [
            ("PREFECT__FLOW_ENTRYPOINT", entrypoint),
            ("PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS", "true"),
        ];
        for (name, value) in ours {
            variables.retain(|entry| entry.get("name") != Some(&name.into()));
            variables.push(json!({"name": name, "value": value}));
        }
        let has_path = variables
            .iter()
            .any(|entry| entry.get("name") == Some(&"PYTHONPATH".into()));
        if !has_path {
            variables.push(json!({"name": "PYTHONPATH", "value": CODE}));
        }
    }
    Ok(())
}
