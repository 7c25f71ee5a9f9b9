//! Pages of the documentation whose commands need a Python with Prefect: followed as their reader would.

use worker_tests::{page::Page, prefect::Python, reader::Reader};

use crate::PROGRAM;

#[test]
fn the_first_example_can_be_deployed_by_prefect_too() {
    follow("examples/hello/README.md");
}

#[test]
fn the_flow_example_does_what_its_page_says() {
    follow("examples/flow/README.md");
}

#[test]
fn the_example_that_is_cancelled_does_what_its_page_says() {
    follow("examples/cancel/README.md");
}

#[test]
fn the_examples_that_fail_do_what_their_page_says() {
    follow("examples/fails/README.md");
}

fn follow(path: &str) {
    let python = Python::installed();
    let reader = Reader::new(PROGRAM).with("PATH", &python.path());
    reader.follow(&Page::read(path), |_| false);
}
