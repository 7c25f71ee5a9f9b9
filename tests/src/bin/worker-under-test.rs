//! The real program, built with the tests: cargo builds the binaries of a test's own crate and no others, so only
//! this way is what the tests start always what was just written.

use std::process::ExitCode;

fn main() -> ExitCode {
    worker::main()
}
