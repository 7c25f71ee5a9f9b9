//! The program as its user meets it: on loopback, without Python, without Docker.

mod cancel;
mod changing;
mod crash;
mod doctor;
mod exec;
mod faults;
mod operating;
mod outage;
mod pull;
mod scene;
mod secrets;
mod several;
mod sockets;
mod stage;
mod together;
mod usage;
mod watching;
mod wrong_job;
mod wrong_place;
mod wrong_pool;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_worker-under-test");
