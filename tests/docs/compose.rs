//! The Compose file: what its worker is told exists, and its jobs are told where the server is. Its images are fetched from elsewhere, so
//! nothing of it runs here.

use std::fs;

use serde_json::{Value, json};
use worker_config::settings;
use worker_tests::{files::root, program::Program};

use crate::PROGRAM;

#[test]
fn the_worker_of_the_compose_file_is_told_what_it_understands() {
    let compose = compose();
    let worker = &compose["services"]["worker"];
    let command = worker["command"].as_array().expect("a list of arguments");
    let mut words: Vec<&str> = command.iter().filter_map(Value::as_str).collect();
    assert_eq!(words.len(), command.len(), "{command:?}");
    words.push("--help");
    drop(Program::new(PROGRAM).run(&words).expect_code(0));
    let reference = settings::reference();
    for name in worker["environment"].as_object().expect("variables").keys() {
        let known = reference
            .iter()
            .any(|key| key.variables.contains(name) || key.prefect_variable.as_ref() == Some(name));
        assert!(known, "nothing reads {name}");
    }
}

#[test]
fn its_parts_wait_for_each_other_and_nothing_but_this_machine_reaches_them() {
    let compose = compose();
    let services = compose["services"].as_object().expect("services");
    for (name, service) in services {
        let needs = service["depends_on"].as_object();
        for (other, how) in needs.into_iter().flatten() {
            assert_eq!(how["condition"], "service_healthy", "{name} on {other}");
            assert!(
                !services[other]["healthcheck"].is_null(),
                "{other} says nothing of itself"
            );
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().expect("a text");
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
        let image = service["image"].as_str().expect("each names its image");
        let pinned = image == "worker" || image.contains(':') && !image.ends_with(":latest");
        assert!(pinned, "{name}: {image}");
    }
}

#[test]
fn its_jobs_are_in_the_network_of_the_server_and_the_template_is_the_usual_one_otherwise() {
    let network = compose()["networks"]["default"]["name"].clone();
    let mut usual = worker_drivers::docker::default_template();
    usual["variables"]["properties"]["networks"]["default"] = json!([network]);
    let text = fs::read_to_string(root().join("deploy/compose/template.json"));
    let ours: Value = serde_json::from_str(&text.expect("it is there")).expect("it is JSON");
    assert_eq!(ours, usual);
}

fn compose() -> Value {
    let text = fs::read_to_string(root().join("deploy/compose/compose.yaml"));
    serde_saphyr::from_str(&text.expect("it is there")).expect("it is YAML")
}
