//! The embedded API: enough of a Prefect server, on SQLite, for one machine.
//!
//! It is also the server that tests run against, with faults that can be injected per route. It speaks the wire of
//! Prefect 3.8.8 as far as a worker, the `prefect` package while it deploys and runs a flow, and this project's command
//! line need it; what it does not have, it says. It knows nothing of drivers or of the worker that polls it.

mod auth;
mod body;
mod error;
mod events;
mod faults;
mod listener;
mod names;
mod orchestration;
mod patch;
mod routes;
mod schedule;
mod search;
mod server;
mod services;
mod store;
mod task;
mod validation;

pub use faults::{Fault, Faults, Requests};
pub use server::{Server, ServerError, ServerOptions};
pub use store::{OpenError, Storage};

/// The Prefect release whose answers these are.
pub const PREFECT_VERSION: &str = "3.8.8";
