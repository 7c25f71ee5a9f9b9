//! Waiting on a condition, with a bound and with the last status in the panic message.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// The pause between two looks: short beside anything waited for, long enough to leave the processor to it.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `look` finds what it is after and returns that.
///
/// `look` answers `Err` with what it saw instead. It is asked once more after the bound has passed, so a slow
/// machine does not fail a test whose condition holds.
///
/// # Panics
///
/// When the bound has passed, with `what` and the last thing seen.
#[track_caller]
pub fn until<T, S: Display>(
    what: &str,
    bound: Duration,
    mut look: impl FnMut() -> Result<T, S>,
) -> T {
    let started = Instant::now();
    loop {
        let late = started.elapsed() >= bound;
        match look() {
            Ok(found) => return found,
            Err(seen) if late => panic!("not within {bound:?}: {what}; last seen: {seen}"),
            Err(_) => pause(),
        }
    }
}

/// Whether a condition comes to hold within the bound.
pub fn holds(bound: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        let late = started.elapsed() >= bound;
        if condition() {
            return true;
        }
        if late {
            return false;
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test blocks its own thread between two looks; there is no runtime here that could be held up"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests;
