//! The page about containers, followed as its reader would. Its image is made of what the tests have: nothing is fetched.

use std::fs;

use serde_json::Value;
use worker_tests::{files::root, page::Page, prefect::Python, reader::Reader};

use crate::{PROGRAM, flow_image, stage::docker};

#[test]
fn the_example_of_a_flow_in_an_image_does_what_its_page_says() {
    let python = Python::installed();
    let files = tempfile::tempdir().expect("a temporary directory can be made");
    let at = |name: &str| files.path().join(name);
    fs::copy(root().join("examples/docker/flow.py"), at("flow.py")).expect("it is there");
    let dockerfile = "FROM worker-test/python:1\nWORKDIR /opt/prefect/flows\nCOPY flow.py .\n";
    fs::write(at("Dockerfile"), dockerfile).expect("a fresh directory");
    docker(&[
        "build",
        "--tag",
        "flows:1",
        &files.path().display().to_string(),
    ]);
    let template = at("template.json");
    fs::write(
        &template,
        template_with(&flow_image::defaults(&python)).to_string(),
    )
    .expect("a fresh directory");
    let engine = std::env::var("WORKER_TEST_DOCKER_HOST").expect("`tests/run` sets it");
    let reader = Reader::new(PROGRAM)
        .with("PATH", &python.path())
        .with("DOCKER_HOST", &engine)
        .with("WORKER_BASE_JOB_TEMPLATE", &template.display().to_string());
    let page = Page::read("examples/docker/README.md");
    reader.follow(&page, |command| command.text.starts_with("docker build"));
}

/// The base job template with other defaults. The image is named by the example.
fn template_with(defaults: &Value) -> Value {
    let mut template = worker_drivers::docker::default_template();
    for (name, value) in defaults.as_object().expect("they are an object") {
        template["variables"]["properties"][name]["default"] = value.clone();
    }
    template
}
