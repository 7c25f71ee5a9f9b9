//! The server as its clients see it: every test starts one on a free port and speaks to it over a socket.

mod access;
mod blocks;
mod client;
mod deployments;
mod events;
mod faults;
mod limits;
mod polling;
mod runs;
mod schedules;
mod storage;
mod transitions;
mod worker_channel;
