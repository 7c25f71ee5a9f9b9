//! The program beside the real thing: Prefect's own server, Prefect's own engine, Prefect's own worker.
//!
//! These tests fail when the Python environment is missing; `tests/run` makes it. They run one at a time.

mod column;
mod compare;
mod expected;
mod matrix;
mod official;
mod pages;
mod servers;
mod skew;
mod story;
mod traced;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_worker-under-test");
