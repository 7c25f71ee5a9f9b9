//! What a fake job does, read from its environment.

use std::{fmt::Display, str::FromStr, time::Duration};

use crate::{
    driver::DriverError,
    job::{Environment, Outcome},
};

/// What a fake job does. Without any variable it writes nothing and exits 0 at once. Times are in seconds, with fractions.
///
/// | variable | field |
/// |---|---|
/// | `FAKE_SUBMIT_ERROR` = `invalid`, `denied`, `not_found`, `conflict`, `quota`, `unavailable`, or `lost` (unavailable, but made) | `submit_fault` |
/// | `FAKE_SUBMIT_ERRORS` (how many submissions fail; without it all) | `submit_faults` |
/// | `FAKE_MISSING_PROGRAM` (submitting fails, because this program is not there) | `submit_fault` |
/// | `FAKE_SUBMIT_TAKES` | `submit_takes` |
/// | `FAKE_PENDING` | `pending` |
/// | `FAKE_RUN` = seconds, or `forever` (until stopped) | `runs` |
/// | `FAKE_EXIT`, `FAKE_REPORTED`, `FAKE_SIGNAL`, `FAKE_OOM`, `FAKE_LOST`, `FAKE_NEVER_STARTED` | `end` |
/// | `FAKE_STDOUT`, `FAKE_STDERR` (written at the start), `FAKE_LAST_STDOUT` (at the end); `\n`, `\\` and `\xNN` are understood | `stdout`, `stderr`, `last_stdout` |
/// | `FAKE_LINES` (so many numbered lines on both streams) | both |
/// | `FAKE_LONG_LINE` (one line of so many bytes) | `stdout` |
/// | `FAKE_STOP_EXIT`, `FAKE_STOP_REPORTED` (else it ends by the polite signal) | `stopped` |
/// | `FAKE_STOP_TAKES`, `FAKE_IGNORE_STOP` | `stop_takes` |
/// | `FAKE_CHILDREN` (processes besides the first) | `children` |
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// What submitting fails with.
    pub submit_fault: Option<SubmitFault>,
    /// How many submissions fail before one succeeds.
    pub submit_faults: usize,
    /// How long submitting takes.
    pub submit_takes: Duration,
    /// How long it is pending before it runs.
    pub pending: Duration,
    /// How long it runs, or until it is stopped.
    pub runs: Option<Duration>,
    /// How it ends when nobody stops it.
    pub end: Outcome,
    /// What it writes at the start.
    pub stdout: Vec<u8>,
    /// The same to standard error.
    pub stderr: Vec<u8>,
    /// What it writes at the end.
    pub last_stdout: Vec<u8>,
    /// How it ends when it is stopped politely.
    pub stopped: Outcome,
    /// How long that takes; `None` when it takes no notice and has to be forced.
    pub stop_takes: Option<Duration>,
    /// How many processes it has besides the first.
    pub children: usize,
}

/// Why submitting fails.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the driver error of its name")]
pub enum SubmitFault {
    Invalid,
    Denied,
    NotFound(String),
    Conflict,
    Quota,
    Unavailable,
    /// Unavailable, but the infrastructure was made: the answer was lost.
    Lost,
}

const SIGTERM: i32 = 15;

// === impl Script ===

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// [`DriverError::Invalid`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, DriverError> {
        let read = Reader(environment);
        let flag = |name| read.find(name).is_some_and(|value| value != "0");
        let reported = flag("FAKE_REPORTED");
        let code = read.number("FAKE_EXIT")?.unwrap_or(0);
        let mut end = Outcome::Exited { code, reported };
        if let Some(signal) = read.number("FAKE_SIGNAL")? {
            end = Outcome::Signalled {
                signal,
                by_us: false,
            };
        }
        if let Some(limit) = read.number("FAKE_OOM")? {
            end = Outcome::OutOfMemory { limit: Some(limit) };
        }
        if let Some(reason) = read.find("FAKE_LOST") {
            end = Outcome::Lost {
                reason: reason.to_owned(),
            };
        }
        if let Some(reason) = read.find("FAKE_NEVER_STARTED") {
            end = Outcome::NeverStarted {
                reason: reason.to_owned(),
            };
        }
        let stopped = match read.number("FAKE_STOP_EXIT")? {
            Some(code) => Outcome::Exited {
                code,
                reported: flag("FAKE_STOP_REPORTED"),
            },
            None => Outcome::Signalled {
                signal: SIGTERM,
                by_us: true,
            },
        };
        let (stdout, stderr) = read.output()?;
        Ok(Self {
            submit_fault: read.fault()?,
            submit_faults: read.number("FAKE_SUBMIT_ERRORS")?.unwrap_or(usize::MAX),
            submit_takes: read.seconds("FAKE_SUBMIT_TAKES")?.unwrap_or_default(),
            pending: read.seconds("FAKE_PENDING")?.unwrap_or_default(),
            runs: match read.find("FAKE_RUN") {
                Some("forever") => None,
                _ => Some(read.seconds("FAKE_RUN")?.unwrap_or_default()),
            },
            end,
            stdout,
            stderr,
            last_stdout: read.bytes("FAKE_LAST_STDOUT")?,
            stopped,
            stop_takes: if flag("FAKE_IGNORE_STOP") {
                None
            } else {
                Some(read.seconds("FAKE_STOP_TAKES")?.unwrap_or_default())
            },
            children: read.number("FAKE_CHILDREN")?.unwrap_or_default(),
        })
    }
}

// === impl SubmitFault ===

impl SubmitFault {
    pub(super) fn error(&self) -> DriverError {
        let reason = "the script says so".to_owned();
        match self {
            Self::Invalid => DriverError::Invalid {
                field: "FAKE_SUBMIT_ERROR".to_owned(),
                reason,
            },
            Self::Denied => DriverError::Denied {
                what: "FAKE_SUBMIT_ERROR".to_owned(),
                reason,
            },
            Self::NotFound(program) => DriverError::NotFound {
                what: format!("program '{program}'"),
            },
            Self::Conflict => DriverError::Conflict {
                what: "FAKE_SUBMIT_ERROR".to_owned(),
            },
            Self::Quota => DriverError::Quota {
                reason,
                retry_after: None,
            },
            Self::Unavailable | Self::Lost => DriverError::Unavailable {
                engine: super::ENGINE,
                reason,
            },
        }
    }
}

struct Reader<'a>(&'a Environment);

// === impl Reader ===

impl Reader<'_> {
    fn find(&self, name: &str) -> Option<&str> {
        self.0.0.get(name).map(String::as_str)
    }

    fn number<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, DriverError> {
        let number = self.find(name).map(T::from_str).transpose();
        number.map_err(|error| invalid(name, error.to_string()))
    }

    fn seconds(&self, name: &str) -> Result<Option<Duration>, DriverError> {
        let seconds: Option<f64> = self.number(name)?;
        let time = seconds.map(Duration::try_from_secs_f64).transpose();
        time.map_err(|error| invalid(name, error.to_string()))
    }

    fn fault(&self) -> Result<Option<SubmitFault>, DriverError> {
        if let Some(program) = self.find("FAKE_MISSING_PROGRAM") {
            return Ok(Some(SubmitFault::NotFound(program.to_owned())));
        }
        let name = "FAKE_SUBMIT_ERROR";
        Ok(Some(match self.find(name) {
            None => return Ok(None),
            Some("invalid") => SubmitFault::Invalid,
            Some("denied") => SubmitFault::Denied,
            Some("not_found") => SubmitFault::NotFound("scripted".to_owned()),
            Some("conflict") => SubmitFault::Conflict,
            Some("quota") => SubmitFault::Quota,
            Some("unavailable") => SubmitFault::Unavailable,
            Some("lost") => SubmitFault::Lost,
            Some(other) => return Err(invalid(name, format!("'{other}' is not an error"))),
        }))
    }

    fn output(&self) -> Result<(Vec<u8>, Vec<u8>), DriverError> {
        let mut stdout = self.bytes("FAKE_STDOUT")?;
        let mut stderr = self.bytes("FAKE_STDERR")?;
        for number in 1..=self.number("FAKE_LINES")?.unwrap_or(0_usize) {
            stdout.extend(format!("out {number}\n").bytes());
            stderr.extend(format!("err {number}\n").bytes());
        }
        if let Some(length) = self.number("FAKE_LONG_LINE")? {
            stdout.extend(std::iter::repeat_n(b'x', length));
            stdout.push(b'\n');
        }
        Ok((stdout, stderr))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, DriverError> {
        let unescaped = self.find(name).map_or(Some(Vec::new()), unescape);
        unescaped.ok_or_else(|| invalid(name, "only \\n, \\\\ and \\xNN are understood".to_owned()))
    }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b'\\' => b'\\',
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                _ => return None,
            },
            plain => plain,
        });
    }
    Some(bytes)
}

fn invalid(name: &str, reason: String) -> DriverError {
    DriverError::Invalid {
        field: name.to_owned(),
        reason,
    }
}
