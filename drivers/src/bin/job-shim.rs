//! The shim alone, for the tests of this crate. The worker's binary is its own shim.

use std::process::ExitCode;

fn main() -> ExitCode {
    worker_drivers::subprocess::run_if_shim().unwrap_or(ExitCode::from(2))
}
