//! What the program says to those who use it wrongly, and with which exit code.

use worker_tests::program::Program;

use crate::PROGRAM;

#[test]
fn help_names_every_command() {
    let help = Program::new(PROGRAM).run(&["--help"]).expect_code(0).stdout;
    for command in [
        "exec", "server", "run", "ps", "logs", "cancel", "pool", "doctor",
    ] {
        let named = help
            .lines()
            .any(|line| line.split_whitespace().next() == Some(command));
        assert!(named, "no {command} in:\n{help}");
    }
}

#[test]
fn an_unknown_flag_is_a_usage_error_that_names_it() {
    let finished = Program::new(PROGRAM)
        .run(&["--pool", "demo", "--nope"])
        .expect_code(2);
    assert!(finished.stderr.contains("--nope"), "{finished}");
}

#[test]
fn all_values_that_are_wrong_are_named_at_once() {
    let finished = Program::new(PROGRAM)
        .with("PREFECT_API_URL", "not a url")
        .with("PREFECT_WORKER_QUERY_SECONDS", "soon")
        .run(&["--pool", "demo"])
        .expect_code(78);
    for name in ["PREFECT_API_URL", "PREFECT_WORKER_QUERY_SECONDS"] {
        assert!(finished.stderr.contains(name), "no {name}: {finished}");
    }
}

#[test]
fn an_api_that_is_not_there_is_named() {
    let address = worker_tests::prefect::free_address().expect("loopback has a free port");
    let finished = Program::new(PROGRAM)
        .with("PREFECT_API_URL", format!("http://{address}/api"))
        .with("PREFECT_CLIENT_MAX_RETRIES", "0")
        .run(&["pool", "ls"])
        .expect_code(1);
    assert!(finished.stderr.contains(&address.to_string()), "{finished}");
}

#[test]
fn whoever_waits_for_an_api_that_is_not_there_is_told_what_for() {
    let address = worker_tests::prefect::free_address().expect("loopback has a free port");
    let finished = Program::new(PROGRAM)
        .with("PREFECT_API_URL", format!("http://{address}/api"))
        .run(&["ps"])
        .expect_code(1);
    let first = finished.stderr.lines().next().unwrap_or_default();
    assert_eq!(
        first,
        format!("The API at http://{address}/api does not answer; trying for a little longer.")
    );
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named_by_every_command_alike() {
    let program = Program::new(PROGRAM).with("WORKER_STATE_DIR", "/dev/null/state");
    let path = program.directory("code");
    std::fs::write(
        path.join("prefect.yaml"),
        "deployments:\n- name: x\n  work_pool: {name: p, job_variables: {command: 'true'}}\n",
    )
    .expect("writable");
    let path = path.display().to_string();
    for arguments in [&["--pool", "demo"][..], &["ps"], &["exec", &path]] {
        let finished = program.run(arguments).expect_code(78);
        let said = finished.stderr.lines().last().unwrap_or_default();
        assert!(
            said.starts_with("error: the state directory /dev/null/state")
                && said.contains("cannot be used; choose another with --state-dir: "),
            "{finished}"
        );
    }
}
