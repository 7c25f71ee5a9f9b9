//! What the scenario and live tests share: the program with an environment of its own, waiting with a bound, a git
//! repository, a small HTTP client, a proxy that counts, a way to a cluster that fails on order, a kubelet that plays pods, and
//! a real Prefect server.
//!
//! Nothing here knows what the worker should do; that is for the tests to say. Everything ends with the test that
//! made it: directories are removed, processes are ended by their id.

pub mod files;
pub mod gateway;
pub mod http;
pub mod kubelet;
pub mod prefect;
pub mod program;
pub mod proxy;
pub mod repository;
pub mod wait;
