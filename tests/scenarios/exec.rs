//! `worker exec`: one deployment, run here, to its end.

use worker_tests::{files::copy_of_example, program::Program};

use crate::PROGRAM;

/// What the build step and the script of the examples call. Python is not among them.
const COMMANDS: [&str; 3] = ["cp", "git", "sh"];

#[test]
fn a_command_from_a_git_repository_ends_completed_with_its_output_in_the_log() {
    let program = Program::new(PROGRAM).with_only_commands(&COMMANDS);
    let hello = copy_of_example("hello", &program.directory("examples"));
    let finished = program
        .run(&["exec", &hello.display().to_string()])
        .expect_code(0);
    for expected in ["Hello from a git repository.", "Completed"] {
        assert!(
            finished.stdout.contains(expected),
            "no {expected:?}: {finished}"
        );
    }
}

#[test]
fn programs_get_the_log_and_the_final_flow_run_as_json() {
    let program = Program::new(PROGRAM).with_only_commands(&COMMANDS);
    let hello = copy_of_example("hello", &program.directory("examples"));
    let finished = program
        .run(&["exec", &hello.display().to_string(), "--json"])
        .expect_code(0);
    let values = finished.json();
    let says_hello = values
        .iter()
        .any(|value| value["message"] == "Hello from a git repository.");
    assert!(says_hello, "{finished}");
    let last = values.last().expect("there is output");
    assert_eq!(last["state_type"], "COMPLETED", "{finished}");
}

#[test]
fn a_second_run_of_the_same_example_ends_as_the_first_did() {
    let program = Program::new(PROGRAM).with_only_commands(&COMMANDS);
    let hello = copy_of_example("hello", &program.directory("examples"));
    for _ in 0..2 {
        let finished = program
            .run(&["exec", &hello.display().to_string()])
            .expect_code(0);
        assert!(finished.stdout.contains("Completed"), "{finished}");
    }
}

#[test]
fn a_command_that_fails_ends_crashed_with_its_exit_code_and_its_last_words() {
    let program = Program::new(PROGRAM).with_only_commands(&COMMANDS);
    let fails = copy_of_example("fails", &program.directory("examples"));
    let finished = program
        .run(&["exec", &fails.display().to_string(), "-n", "command"])
        .expect_code(1);
    let said = format!("{}{}", finished.stdout, finished.stderr);
    for expected in ["the shelf is empty", "Crashed", "3"] {
        assert!(said.contains(expected), "no {expected:?}: {finished}");
    }
}

#[test]
fn a_directory_without_a_manifest_is_named() {
    let program = Program::new(PROGRAM);
    let empty = program.directory("empty").display().to_string();
    let finished = program.run(&["exec", &empty]);
    assert_ne!(finished.code(), 0, "{finished}");
    assert!(finished.stderr.contains("prefect.yaml"), "{finished}");
    assert!(finished.stderr.contains(&empty), "{finished}");
}

#[test]
fn a_deployment_that_is_meant_for_containers_is_said_to_run_without_one() {
    let program = Program::new(PROGRAM);
    let place = program.directory("project");
    let manifest = "name: p\ndeployments:\n  - name: d\n    work_pool:\n      name: docker-pool\n      job_variables:\n        image: flows:1\n        command: echo hello\n";
    std::fs::write(place.join("prefect.yaml"), manifest).expect("a fresh directory");
    let finished = program
        .run(&["exec", &place.display().to_string()])
        .expect_code(0);
    for said in ["not in a container", "flows:1", "worker --pool docker-pool"] {
        assert!(finished.stderr.contains(said), "no {said}: {finished}");
    }
}
