//! The login for a registry, from a block to the nodes and away with its Job.

use serde_json::{Value, json};
use worker_tests::{kubelet::Step, wait};

use crate::stage::{BOUND, POOL, Stage, text};

const PASSWORD: &str = "canary-word";

/// Puts the variable into the pool's template, as people do who have private images.
fn open_template(stage: &Stage) {
    let mut template = worker_drivers::kubernetes::default_template();
    template["variables"]["properties"]["namespace"]["default"] = json!(stage.namespace);
    template["variables"]["properties"]["registry_credentials"] = json!({"title": "Registry"});
    template["job_configuration"]["registry_credentials"] = json!("{{ registry_credentials }}");
    let pool = json!({"base_job_template": template});
    stage.api().patch(&format!("/work_pools/{POOL}"), &pool);
}

/// Makes a block of the type that prefect-docker has for this.
fn make_block(stage: &Stage) {
    let slug = "docker-registry-credentials";
    let kind = json!({"name": "Docker Registry Credentials", "slug": slug});
    let kind = stage.api().post("/block_types/", &kind)["id"].clone();
    let fields = json!({
        "title": "DockerRegistryCredentials", "type": "object",
        "properties": {
            "username": {"type": "string"}, "password": {"type": "string"},
            "registry_url": {"type": "string"}, "reauth": {"type": "boolean"},
        },
        "secret_fields": ["password"], "block_type_slug": slug, "block_schema_references": {},
    });
    let schema = json!({"block_type_id": kind, "fields": fields});
    let schema = stage.api().post("/block_schemas/", &schema)["id"].clone();
    let data = json!({
        "username": "ada", "password": PASSWORD, "registry_url": "registry.example", "reauth": true,
    });
    let document = json!({
        "name": "mine", "block_type_id": kind, "block_schema_id": schema, "data": data,
    });
    stage.api().post("/block_documents/", &document);
}

fn secrets(stage: &Stage) -> Vec<Value> {
    let path = format!(
        "/api/v1/namespaces/{}/secrets?labelSelector=prefect-worker.io/job",
        stage.namespace
    );
    let found = stage.cluster().get(&path);
    found["items"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_block_becomes_a_secret_that_the_pod_names_and_goes_with_its_job() {
    let stage = Stage::set();
    open_template(&stage);
    make_block(&stage);
    let block = "{{ prefect.blocks.docker-registry-credentials.mine }}";
    let more = json!({"registry_credentials": block});
    let run = stage.run("start", &more);
    let program = stage.worker();
    let worker = program.start(&["--pool", POOL]);
    stage.wait_until_runs(&run, &worker);
    let [secret] = &secrets(&stage)[..] else {
        panic!("there is one: {:?}", secrets(&stage));
    };
    assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
    // {"auths":{"registry.example":{"auth":"…","password":"canary-word","username":"ada"}}}
    let expected = "eyJhdXRocyI6eyJyZWdpc3RyeS5leGFtcGxlIjp7ImF1dGgiOiJZV1JoT21OaGJtRnllUzEzYjNKayIsInBhc3N3b3JkIjoiY2FuYXJ5LXdvcmQiLCJ1c2VybmFtZSI6ImFkYSJ9fX0=";
    assert_eq!(secret["data"], json!({".dockerconfigjson": expected}));
    let jobs = stage.jobs(&run);
    let [job] = &jobs[..] else {
        panic!("it has one Job: {jobs:?}");
    };
    let owner = &secret["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], job["metadata"]["uid"]);
    let named = &job["spec"]["template"]["spec"]["imagePullSecrets"];
    assert_eq!(*named, json!([{"name": secret["metadata"]["name"]}]));
    let encoded = "Y2FuYXJ5LXdvcmQ";
    let told = [job.to_string(), worker.stderr(), stage.log(&run)];
    let rendered = render(&stage, &run);
    for told in told.iter().chain([&rendered]) {
        assert!(
            !told.contains(PASSWORD) && !told.contains(encoded),
            "{told}"
        );
    }
    assert!(rendered.contains("imagePullSecrets"), "{rendered}");
    stage.kubelet.play(&run, &Step::Exit(0));
    let (ended, message) = stage.wait_for_end_within(BOUND, &run, &worker);
    assert_eq!(ended, "Completed", "{message}");
    let is_gone = || stage.jobs(&run).is_empty() && secrets(&stage).is_empty();
    assert!(wait::holds(BOUND, is_gone), "{:?}", secrets(&stage));
}

/// What a person is shown of the job.
fn render(stage: &Stage, run: &str) -> String {
    let flow_run = stage.api().get(&format!("/flow_runs/{run}"));
    let deployment = text(&flow_run["deployment_id"]);
    let deployment = stage.api().get(&format!("/deployments/{deployment}"));
    let name = format!("command/{}", text(&deployment["name"]));
    let program = stage.worker();
    let shown = program.start(&["render", &name]).finish();
    format!("{}{}", shown.stdout, shown.stderr)
}
