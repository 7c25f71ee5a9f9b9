//! Looks at this machine as an operator would: which Python flows get, and whether jobs get control groups.

use std::{path::PathBuf, process::Stdio, time::Duration};

use super::{Cgroups, Shared, cgroup::Delegated, program};
use crate::examination::Finding;

/// How long a Python may take to say which Prefect it has. Importing it cold takes seconds.
const PYTHON_LIMIT: Duration = Duration::from_mins(1);

pub(super) async fn examine(shared: &Shared) -> Vec<Finding> {
    vec![python(shared).await, cgroups(shared)]
}

/// Asks the Python that flows would run on for its Prefect. Plain commands do without.
async fn python(shared: &Shared) -> Finding {
    const WHAT: &str = "Python";
    let program = match interpreter(shared) {
        Ok(program) => program,
        Err(reason) => {
            let detail = format!(
                "{reason}; Python flows need one: activate its environment, or give --python"
            );
            return Finding::warning(WHAT, detail);
        }
    };
    let name = program.display();
    let asked = tokio::process::Command::new(&program)
        .args([
            "-c",
            "import platform, prefect; print(platform.python_version(), prefect.__version__)",
        ])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(PYTHON_LIMIT, asked).await {
        Err(_) => Finding::warning(WHAT, format!("{name} does not answer")),
        Ok(Err(error)) => Finding::warning(WHAT, format!("{name}: {error}; Python flows need one")),
        Ok(Ok(answer)) if answer.status.success() => {
            let said = String::from_utf8_lossy(&answer.stdout);
            let (python, prefect) = said.trim().split_once(' ').unwrap_or((said.trim(), "?"));
            Finding::ok(
                WHAT,
                format!("{name} is Python {python} with Prefect {prefect}"),
            )
        }
        Ok(Ok(_)) => Finding::warning(
            WHAT,
            format!(
                "{name} has no prefect package; Python flows need it: activate its environment, or give --python"
            ),
        ),
    }
}

/// The interpreter of a job that says nothing about it.
fn interpreter(shared: &Shared) -> Result<PathBuf, String> {
    let settings = &shared.settings;
    let of = |name: &str| {
        settings
            .inherit
            .0
            .get(name)
            .filter(|value| !value.is_empty())
    };
    let named = settings
        .python
        .clone()
        .or_else(|| Some(PathBuf::from(of("VIRTUAL_ENV")?).join("bin/python")));
    let path = of("PATH").map_or("", String::as_str);
    let find = |name: &str| program::find_program(name, path, &settings.current_dir);
    let found = match named {
        Some(named) => find(&named.to_string_lossy()),
        None => find("python3").or_else(|_| find("python")),
    };
    found.map_err(|error| error.to_string())
}

fn cgroups(shared: &Shared) -> Finding {
    const WHAT: &str = "cgroups";
    if shared.settings.cgroups == Cgroups::Off {
        return Finding::ok(WHAT, "jobs get none (process.cgroups = false)");
    }
    match &shared.cgroups {
        Some(delegated) if delegated.accounts_memory() => Finding::ok(
            WHAT,
            "each job gets one of its own, with its memory accounted",
        ),
        Some(_) => Finding::warning(
            WHAT,
            "each job gets one of its own, but the kernel does not account its memory there, so a job that it ends for lack of memory is told as killed",
        ),
        None => {
            let reason = Delegated::detect().err().unwrap_or_default();
            let detail = format!(
                "jobs get none ({reason}): what a job left behind is looked for by session, and lack of memory is told as a kill; under systemd the drop-in subprocess.conf delegates one"
            );
            Finding::warning(WHAT, detail)
        }
    }
}
