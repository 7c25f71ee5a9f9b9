//! The program. Everything is in the library, so that tests run the same one.

fn main() -> std::process::ExitCode {
    worker::main()
}
