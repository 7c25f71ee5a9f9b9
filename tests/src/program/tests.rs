//! A program lives in an environment of its own.

use super::Program;

#[test]
fn nothing_but_the_path_is_inherited() {
    let printed = Program::new("/usr/bin/env").run::<&str>(&[]).stdout;
    let names: Vec<&str> = printed
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    assert_eq!(
        names,
        [
            "DO_NOT_TRACK",
            "HOME",
            "LANG",
            "NO_COLOR",
            "PATH",
            "WORKER_STATE_DIR"
        ]
    );
}

#[test]
fn only_the_named_commands_are_found() {
    let program = Program::new("/bin/sh").with_only_commands(&["cat"]);
    let finished = program.run(&["-c", "command -v cat; command -v ls || echo no ls"]);
    assert!(finished.stdout.ends_with("bin/cat\nno ls\n"), "{finished}");
}

#[test]
fn output_and_exit_code_are_kept() {
    let finished = Program::new("/bin/sh").run(&["-c", "echo '{\"a\": 1}'; echo oops >&2; exit 3"]);
    let finished = finished.expect_code(3);
    assert_eq!(finished.json(), [serde_json::json!({"a": 1})]);
    assert_eq!(finished.stderr, "oops\n");
}

#[test]
fn dropping_a_running_program_kills_it() {
    let running = Program::new("/bin/sleep").start(&["600"]);
    let process = nix::unistd::Pid::from_raw(running.pid().try_into().unwrap());
    drop(running);
    assert_eq!(
        nix::sys::signal::kill(process, None),
        Err(nix::errno::Errno::ESRCH)
    );
}
