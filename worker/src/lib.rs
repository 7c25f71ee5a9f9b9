//! A pull-based worker runtime for Prefect work pools: takes a flow run from its pool to its end.
//!
//! The life of one flow run is `run`, top to bottom; the loop around all of them is `worker` and `dispatcher`. See `ARCHITECTURE.md`.

mod board;
mod cancellation;
mod channel;
mod claim;
mod cli;
mod deploy;
mod disk;
mod dispatcher;
mod embedded;
mod emitter;
mod event;
mod fresh;
mod heartbeat;
mod journal;
mod lease;
mod line;
mod metrics;
mod notify;
mod output;
mod parts;
mod patience;
mod pause;
mod poller;
mod progress;
mod pull;
mod recovery;
mod reload;
mod report;
mod resolve;
mod run;
mod run_log;
mod seat;
mod secrets;
mod services;
mod shutdown;
mod silence;
#[cfg(test)]
mod simulation;
mod site;
mod sources;
mod state_dir;
mod status;
mod submit;
mod task;
mod telemetry;
mod wakeup;
mod watch;
mod worker;

pub use cli::main;
