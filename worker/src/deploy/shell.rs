//! `run_shell_script` as the reference runs it (`prefect.deployments.steps.utility`, 3.8.8): each line is a process of its own, split like a
//! shell splits and run without one, so nothing carries over from line to line.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::{Map, Value, json};
use tokio::process::Command;

/// How long one line may run. A build that takes longer belongs into a build system.
const LINE_LIMIT: Duration = Duration::from_hours(1);

/// Why a script failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShellError {
    /// An input that cannot be used.
    #[error("run_shell_script: {0}")]
    Input(&'static str),
    /// A line that cannot be split.
    #[error("run_shell_script: a quote is not closed in the line: {0}")]
    Quote(String),
    /// A program that cannot be started.
    #[error("run_shell_script: cannot start '{program}'")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line that failed.
    #[error("run_shell_script: '{line}' {how}: {stderr}")]
    Failed {
        /// The line.
        line: String,
        /// Its exit code or signal.
        how: String,
        /// What it said.
        stderr: String,
    },
}

/// Runs a script, and gives what it wrote as `stdout` and `stderr`.
pub(crate) async fn run(inputs: &Map<String, Value>, base: &Path) -> Result<Value, ShellError> {
    let script = inputs
        .get("script")
        .and_then(Value::as_str)
        .ok_or(ShellError::Input("'script' is missing or not a text"))?;
    let directory = match inputs.get("directory") {
        None | Some(Value::Null) => base.to_owned(),
        Some(Value::String(directory)) => base.join(directory),
        Some(_) => return Err(ShellError::Input("'directory' is not a text")),
    };
    let shell = inputs.get("shell") == Some(&Value::Bool(true));
    let (mut stdout, mut stderr) = (String::new(), String::new());
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let words = if shell {
            ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
        } else {
            shlex::split(line).ok_or_else(|| ShellError::Quote(line.to_owned()))?
        };
        let Some((program, arguments)) = words.split_first() else {
            continue;
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&directory)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for (name, value) in inputs
            .get("env")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            command.env(
                name,
                value
                    .as_str()
                    .ok_or(ShellError::Input("a value of 'env' is not a text"))?,
            );
        }
        let output = tokio::time::timeout(LINE_LIMIT, command.output())
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|source| ShellError::Start {
                program: program.clone(),
                source,
            })?;
        stdout.push_str(&String::from_utf8_lossy(&output.stdout));
        stderr.push_str(&String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            let stderr = stderr.trim().to_owned();
            return Err(ShellError::Failed {
                line: line.to_owned(),
                how: format!("failed with {}", output.status),
                stderr,
            });
        }
    }
    Ok(json!({"stdout": stdout.trim(), "stderr": stderr.trim()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run_script(script: &str) -> Result<Value, ShellError> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let inputs = Map::from_iter([("script".to_owned(), script.into())]);
        run(&inputs, directory.path()).await
    }

    #[tokio::test]
    async fn each_line_is_a_process_and_their_output_comes_together() {
        let output = run_script("echo one\n\n  echo 'two  words' $HOME")
            .await
            .expect("ran");
        assert_eq!(output["stdout"], "one\ntwo  words $HOME");
    }

    #[tokio::test]
    async fn a_line_that_fails_ends_the_script_and_is_named() {
        let error = run_script("sh -c 'echo no >&2; exit 4'\necho never")
            .await
            .expect_err("failed");
        let text = error.to_string();
        assert!(
            text.contains("exit status: 4") && text.ends_with(": no"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = run_script("no-such-program-here")
            .await
            .expect_err("failed");
        assert!(
            error.to_string().contains("no-such-program-here"),
            "{error}"
        );
    }
}
