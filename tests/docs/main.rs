//! The documentation, held against the program: its commands are typed, its names exist, and what is made from the code is up to date.
//!
//! Pages whose commands need a Python, an engine or systemd are followed by `tests/live`, `tests/docker` and `tests/systemd`.

mod commands;
mod compose;
mod names;
mod reference;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_worker-under-test");
