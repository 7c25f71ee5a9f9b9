//! A worker that dies, at every point where it can, and what its successor makes of that.
//!
//! The server is the embedded one on real sockets, the engine the scripted one, which goes on when a worker dies. Between the worker and
//! them stands [`Steps`], which counts each request and each call to the engine twice, on its way out and on its way back, and lets none
//! through from the one at which the worker is to die. A dead worker is dropped with all its tasks. Its successor gets the journal as the
//! file was at that moment, so that what was not on disk by then is lost.
//!
//! The journal's own writes are no steps, because the world cannot tell a death before a write from one after the step that led to it,
//! nor a death after a write from one before the step that it allows.
//!
//! `WORKER_SIMULATION_POINT=17` or `WORKER_SIMULATION_SEED=17` runs that one alone; `WORKER_SIMULATION_LOG=1` shows what the workers log.

mod clock;
mod fate;
mod mortal;
mod people;
mod random;
mod steps;
mod truth;
mod wire;
mod world;

#[cfg(test)]
mod tests;
