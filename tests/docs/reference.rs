//! Pages that are made from what the code knows. `WORKER_TESTS_WRITE=1` writes them anew.

use std::fs;

use worker_tests::{files::root, program::Program};

use crate::PROGRAM;

const PAGES: [(&str, &str); 2] = [
    ("configuration", "docs/configuration.md"),
    ("command-line", "docs/command-line.md"),
];

#[test]
fn every_setting_command_and_flag_is_documented_as_it_is() {
    for (name, path) in PAGES {
        let made = Program::new(PROGRAM).run(&["reference", name]);
        let made = made.expect_code(0).stdout;
        let file = root().join(path);
        if std::env::var_os("WORKER_TESTS_WRITE").is_some() {
            fs::write(&file, &made).expect("the documentation can be written");
        }
        let written = fs::read_to_string(&file).unwrap_or_default();
        let differs = written.lines().zip(made.lines()).find(|(a, b)| a != b);
        assert!(
            written == made,
            "{path} is not what the program says; WORKER_TESTS_WRITE=1 writes it anew. First difference: {differs:#?}"
        );
    }
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let program = Program::new(PROGRAM);
    for shell in ["bash", "zsh", "fish"] {
        let script = program.run(&["completions", shell]).expect_code(0).stdout;
        for word in ["doctor", "render", "with-healthcheck", "base-job-template"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    let into = program.directory("man");
    drop(
        program
            .run(&["man", &into.display().to_string()])
            .expect_code(0),
    );
    for page in ["worker.1", "worker-doctor.1", "worker-pool-create.1"] {
        let text = fs::read_to_string(into.join(page));
        let text = text.unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(".SH NAME"), "{page}: {text}");
    }
}
