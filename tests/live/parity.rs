//! What a flow run looks like from outside does not depend on which API it ran on.

use serde_json::json;
use worker_tests::{
    prefect::{PrefectServer, Python},
    program::Program,
};

use crate::{
    PROGRAM,
    flow_run::{Example, Story, tell},
    servers::start_embedded,
};

const GREET: Example = Example {
    directory: "flow",
    flow: "greet",
    entrypoint: "greet.py:greet",
};

const CHECK: Example = Example {
    directory: "fails",
    flow: "check",
    entrypoint: "stock.py:check",
};

#[test]
fn a_python_flow_has_the_same_story_on_the_embedded_api_and_on_a_prefect_server() {
    let python = Python::installed();
    let server = PrefectServer::start(&python);
    let program = Program::new(PROGRAM);
    let (_embedded, embedded) = start_embedded(&program);

    let parameters = json!({"names": ["Ada", "Grace"], "polite": true});
    let theirs = tell(server.api(), &python, &GREET, &parameters);
    let ours = tell(embedded, &python, &GREET, &parameters);
    assert_eq!(theirs.parameters, parameters);
    assert_eq!(theirs.last_state(), "COMPLETED Completed", "{theirs:#?}");
    assert!(theirs.has_line("Good day to you, Grace."), "{theirs:#?}");
    assert_same(&ours, &theirs);

    let parameters = json!({"shelf": "empty"});
    let theirs = tell(server.api(), &python, &CHECK, &parameters);
    let ours = tell(embedded, &python, &CHECK, &parameters);
    assert_eq!(theirs.last_state(), "FAILED Failed", "{theirs:#?}");
    assert_same(&ours, &theirs);
}

#[track_caller]
fn assert_same(ours: &Story, theirs: &Story) {
    assert_eq!(ours.states, theirs.states, "states; ours is on the left");
    assert_eq!(
        ours.parameters, theirs.parameters,
        "parameters; ours is on the left"
    );
    assert_eq!(ours.logs, theirs.logs, "logs; ours is on the left");
}
