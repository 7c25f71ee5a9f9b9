//! What benches measure of the machine and of a process, and how they say it.

use std::{fs, io::Write};

/// The load of the machine over the last minute, as the kernel says it.
#[must_use]
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// A number from `/proc/<pid>/status`, in the unit that stands there: kB for memory. 0 where there is none.
#[must_use]
pub fn status_field(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
    number.unwrap_or(0)
}

/// A line on standard output. Whoever closed it does not want the numbers.
pub fn say(line: &str) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}
