//! The program as its user meets it: on loopback, without Python, without Docker.

mod crash;
mod exec;
mod stage;
mod usage;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_worker-under-test");
