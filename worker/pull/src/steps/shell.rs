//! Programs that steps start: the lines of a script, and an installer of Python packages.
//!
//! Each runs in a process group of its own, which ends with it or with the step; nothing of it outlives the step.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
};

use super::{runner::StepError, words};
use crate::{Interrupted, Operation};

/// Where programs run: on this machine, with the job's environment and interpreter.
#[derive(Clone)]
pub struct Shell {
    /// The environment, as a whole.
    pub environment: BTreeMap<String, String>,
    /// The job's interpreter; `python3` from `PATH` when there is none.
    pub python: Option<PathBuf>,
}

/// The inputs of `run_shell_script`.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) text: String,
    pub(super) directory: Option<PathBuf>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) shown: bool,
    pub(super) expands: bool,
    pub(super) shell: bool,
}

/// What programs wrote.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Where lines go while a program writes them.
pub(super) type Show<'a> = dyn Fn(&str) + Send + Sync + 'a;

/// How programs are run: where, until when, and who sees what they write.
pub(super) struct Terms<'a> {
    pub(super) operation: &'a Operation,
    pub(super) directory: &'a Path,
    pub(super) show: &'a Show<'a>,
}

/// Of each stream this much is kept for later steps. More than that is no value, and the program may go on writing.
const MOST_KEPT: usize = 1 << 20;

// === impl Shell ===

impl Shell {
    /// Runs each line of a script as a program of its own, as the reference does: nothing carries over from one to the next. With `shell` each
    /// line is a shell's. A script that begins with `#!` is run as a whole, by what that line names.
    pub(super) async fn run(
        &self,
        script: &Script,
        terms: &Terms<'_>,
    ) -> Result<Written, StepError> {
        let mut environment = self.environment.clone();
        environment.extend(script.environment.iter().cloned());
        let directory = match &script.directory {
            Some(directory) => terms.directory.join(directory),
            None => terms.directory.to_owned(),
        };
        if !directory.is_dir() {
            return Err(StepError::NoDirectory(directory));
        }
        let terms = Terms {
            directory: &directory,
            ..*terms
        };
        let mut written = Written::default();
        for program in programs(script, &environment)? {
            let mut command = Command::new(&program[0]);
            command.args(&program[1..]);
            self.run_one(command, &environment, &terms, &mut written)
                .await?
                .map_err(|code| StepError::Exit {
                    program: "`run_shell_script`",
                    code,
                    stderr: written.stderr.clone(),
                })?;
        }
        Ok(written)
    }

    /// Installs what a file of requirements names, with `uv` where there is one, into the environment of the job's interpreter.
    pub(super) async fn install(
        &self,
        requirements: &str,
        terms: &Terms<'_>,
    ) -> Result<Written, StepError> {
        let python = self
            .python
            .as_ref()
            .map_or("python3".as_ref(), PathBuf::as_path);
        let mut command = if self.finds("uv") {
            let mut command = Command::new("uv");
            command.args(["pip", "install", "--python"]).arg(python);
            command
        } else {
            let mut command = Command::new(python);
            command.args(["-m", "pip", "install"]);
            command
        };
        // A file may have any name.
        command.arg(format!("--requirement={requirements}"));
        let mut environment = self.environment.clone();
        // Modules of the code itself must not stand in for those that pip imports.
        environment.insert("PYTHONSAFEPATH".to_owned(), "1".to_owned());
        let mut written = Written::default();
        self.run_one(command, &environment, terms, &mut written)
            .await?
            .map_err(|code| StepError::Exit {
                program: "pip_install_requirements",
                code,
                stderr: written.stderr.clone(),
            })?;
        Ok(written)
    }

    async fn run_one(
        &self,
        mut command: Command,
        environment: &BTreeMap<String, String>,
        terms: &Terms<'_>,
        written: &mut Written,
    ) -> Result<Result<(), i32>, StepError> {
        let Terms {
            operation,
            directory,
            show,
        } = *terms;
        let program = command
            .as_std()
            .get_program()
            .to_string_lossy()
            .into_owned();
        command
            .env_clear()
            .envs(environment)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let failed = |source| StepError::Program { program, source };
        let mut child = command.spawn().map_err(failed)?;
        let group = Group(child.id());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let Written {
            stdout: out,
            stderr: err,
        } = written;
        let reading = async {
            tokio::join!(read(stdout, out, show), read(stderr, err, show));
            child.wait().await
        };
        let ended = operation.cancelled.run_until_cancelled(reading).await;
        drop(group);
        let Some(ended) = ended else {
            return Err(Interrupted.into());
        };
        let status = ended.map_err(|source| StepError::Program {
            program: "the program".to_owned(),
            source,
        })?;
        Ok(if status.success() {
            Ok(())
        } else {
            Err(code(status))
        })
    }

    fn finds(&self, program: &str) -> bool {
        let path = self.environment.get("PATH").map_or("", String::as_str);
        std::env::split_paths(path).any(|directory| directory.join(program).is_file())
    }
}

impl std::fmt::Debug for Shell {
    /// Names only: any value may be a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell")
            .field("environment", &self.environment.keys())
            .field("python", &self.python)
            .finish()
    }
}

/// A process group that ends when this does.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = leader.filter(|leader| *leader > 1) {
            // Fails when nobody is left, which is what is wanted.
            let _gone = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

// === functions ===

/// The programs that a script is, each with its arguments.
fn programs(
    script: &Script,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<Vec<String>>, StepError> {
    if let Some(first) = script.text.strip_prefix("#!") {
        let line = first.lines().next().unwrap_or_default();
        let mut program = words::split(line).filter(|words| !words.is_empty());
        let program = program.as_mut().ok_or(StepError::Quote)?;
        // What runs scripts takes one as `-c`: shells do, and Python.
        program.extend(["-c".to_owned(), script.text.clone()]);
        return Ok(vec![program.clone()]);
    }
    let mut programs = Vec::new();
    for line in words::lines(&script.text) {
        let line = if script.expands {
            words::expand(line, |name| environment.get(name).cloned())
        } else {
            line.to_owned()
        };
        if line.trim().is_empty() {
            continue;
        }
        if script.shell {
            let line = line.trim().to_owned();
            programs.push(vec!["/bin/sh".to_owned(), "-c".to_owned(), line]);
        } else {
            let words = words::split(&line).ok_or(StepError::Quote)?;
            programs.extend((!words.is_empty()).then_some(words));
        }
    }
    Ok(programs)
}

/// Reads a stream to its end, line by line, and keeps of it what there is room for.
async fn read(stream: Option<impl AsyncRead + Unpin>, into: &mut String, show: &Show<'_>) {
    let Some(stream) = stream else { return };
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A stream that breaks has ended; the exit code says the rest.
        let read = stream.read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        if into.len() + text.len() <= MOST_KEPT {
            into.push_str(&text);
        }
        show(text.trim_end_matches(['\r', '\n']));
    }
}

/// A signal counts as its negative number, as in Python.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;

    status
        .code()
        .unwrap_or_else(|| -status.signal().unwrap_or(1))
}

impl From<io::Error> for StepError {
    fn from(source: io::Error) -> Self {
        Self::Program {
            program: "a program".to_owned(),
            source,
        }
    }
}
