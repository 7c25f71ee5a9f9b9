//! The hooks of a flow whose engine could not run them: it was killed, or did not come so far.
//!
//! They need the flow, so they need a second Python. The reference starts one too, from its worker (3.8.8); here it is the shim, so
//! that hooks run although the worker is gone.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use super::Order;
use crate::{
    job::Intent,
    subprocess::jobs_dir::{End, ExitRecord},
};

/// How long the hooks of a flow may take, all of them together. Its end is reported when they are done.
pub(super) const LIMIT: Duration = Duration::from_mins(1);

/// What the second Python runs.
const SCRIPT: &str = include_str!("hooks.py");

/// The hooks that a flow has for an end, by Prefect's name for them; none where its engine had its say or was not to have it.
pub(super) fn called_for(exit: &ExitRecord, stop: Option<Intent>) -> Option<&'static str> {
    let failed = match exit.end {
        End::Code(code) => code != 0,
        End::Signal(_) => true,
        End::Lost(_) => false,
    };
    match stop {
        _ if !failed || exit.reported => None,
        None => Some("crashed"),
        Some(Intent::Cancel) => Some("cancellation"),
        Some(Intent::Reschedule | Intent::Plain) => None,
    }
}

/// The command that runs them, but for the signals and the group it is born with.
pub(super) fn command(order: &Order, which: &str) -> Command {
    let mut command = Command::new(&order.program);
    command
        .args(["-c", SCRIPT, which])
        .current_dir(&order.directory)
        .env_remove(super::ORDER_VARIABLE)
        .stdin(Stdio::null())
        // The last lines of the job are to be those of its engine.
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[cfg(test)]
mod tests;
