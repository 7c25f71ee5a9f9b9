//! The APIs that a live test has: a real Prefect server, and the one that comes with the program.

use std::time::Duration;

use worker_tests::{
    http::Api,
    prefect::free_address,
    program::{Program, Running},
    wait,
};

/// How long the embedded API may take until it answers.
const START: Duration = Duration::from_secs(30);

/// The embedded API, alone, on a port of its own, until what is returned is dropped.
pub(crate) fn start_embedded(program: &Program) -> (Running, Api) {
    let address = free_address().expect("loopback has a free port");
    let running = program.start(&["server", "--port", &address.port().to_string()]);
    let api = Api::at(address);
    wait::until("the embedded API answers", START, || {
        match api.send("GET", "/health", None) {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
            Err(error) => Err(format!("{error}; it says: {}", running.stderr())),
        }
    });
    (running, api)
}
