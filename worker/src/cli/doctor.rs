//! `worker doctor`: everything a flow run needs here, looked at one by one.

use std::{path::Path, process::ExitCode, time::Duration};

use serde::Serialize;

use worker_api::Client;
use worker_config::{DriverKind, template::BaseJobTemplate};

use super::{context::Context, out::Out};
use crate::telemetry::chain;

/// How long a Python may take to say which Prefect it has. Importing it cold takes seconds.
const PYTHON_LIMIT: Duration = Duration::from_mins(1);

/// What one look found.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// Flow runs of some sort will not work, or not as well as they could.
    Doubtful,
    /// Flow runs will not work.
    Bad,
}

pub(crate) async fn doctor(context: Context, out: Out) -> anyhow::Result<ExitCode> {
    let settings = &context.settings;
    let mut findings = vec![good("settings", "understood".to_owned())];
    findings.extend(
        settings
            .notices
            .iter()
            .map(|notice| doubtful("settings", notice.clone())),
    );
    findings.push(state_dir(&settings.worker.state_dir));
    findings.extend(paused(&settings.worker.state_dir));
    match context.api(None).await {
        Err(error) => findings.push(bad("API", chain(error.as_ref()))),
        Ok(api) => {
            findings.push(reach(&api.client).await);
            match &settings.worker.pool {
                Some(pool) => findings.push(pool_of(&api.client, pool).await),
                None => findings.push(good(
                    "work pool",
                    "none given; --pool NAME looks at one".to_owned(),
                )),
            }
            api.end().await;
        }
    }
    findings.push(python(settings.process.python.as_deref()).await);
    let sick = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Bad);
    for finding in &findings {
        out.json(finding);
        let mark = match finding.verdict {
            Verdict::Good => "ok  ",
            Verdict::Doubtful => "note",
            Verdict::Bad => "BAD ",
        };
        out.say(&format!("{mark}  {:10} {}", finding.what, finding.detail));
    }
    Ok(if sick {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Workers of this machine that claim nothing, because somebody wanted it.
fn paused(state_dir: &Path) -> Vec<Finding> {
    let known = crate::state_dir::known(state_dir).unwrap_or_default();
    let paused = known.into_iter().filter_map(|one| {
        let reason = crate::pause::find_reason(&one.path).ok()??;
        let detail = format!("'{}' of work pool '{}': {reason}", one.worker, one.pool);
        Some(doubtful("worker", detail))
    });
    paused.collect()
}

fn state_dir(path: &Path) -> Finding {
    let probe = path.join(format!("doctor-{}", std::process::id()));
    let written = std::fs::create_dir_all(path).and_then(|()| std::fs::write(&probe, b"x"));
    drop(std::fs::remove_file(&probe));
    match written {
        Ok(()) => good("state", format!("{} can be written", path.display())),
        Err(error) => bad(
            "state",
            format!(
                "{} cannot be written: {error}; choose another with --state-dir",
                path.display()
            ),
        ),
    }
}

async fn reach(client: &Client) -> Finding {
    let client = client.with_retries(0);
    match client.read_version().await {
        Ok(version) => good(
            "API",
            format!("{} answers, version {version}", client.base_url()),
        ),
        // Prefect Cloud has no version to show to workers; a list of pools needs the same credentials.
        Err(_) => match client.list_work_pools().await {
            Ok(pools) => good(
                "API",
                format!(
                    "{} answers, {} work pool(s)",
                    client.base_url(),
                    pools.len()
                ),
            ),
            Err(error) => bad("API", chain(&error)),
        },
    }
}

async fn pool_of(client: &Client, name: &str) -> Finding {
    let what = "work pool";
    let pool = match client.with_retries(0).read_work_pool(name).await {
        Ok(pool) => pool,
        Err(error) if error.is_not_found() => {
            return doubtful(
                what,
                format!("'{name}' does not exist; a worker creates it"),
            );
        }
        Err(error) => return bad(what, chain(&error)),
    };
    if pool.kind.parse::<DriverKind>().is_err() {
        return bad(
            what,
            format!(
                "'{name}' is of type '{}', which this worker does not serve",
                pool.kind
            ),
        );
    }
    match BaseJobTemplate::parse(&pool.base_job_template) {
        Err(error) => bad(what, format!("'{name}': {}", chain(&error))),
        Ok(template) => match template.unknown_placeholders().as_slice() {
            [] => good(what, format!("'{name}' is of type '{}'", pool.kind)),
            unknown => doubtful(
                what,
                format!(
                    "'{name}': its template uses {}, which are not among its variables",
                    unknown.join(", ")
                ),
            ),
        },
    }
}

/// Asks the Python that flows would run on for its Prefect. Plain commands do without.
async fn python(configured: Option<&Path>) -> Finding {
    let what = "Python";
    let program = configured.map_or_else(|| "python3".into(), Path::to_path_buf);
    let asked = tokio::process::Command::new(&program)
        .args(["-c", "import prefect; print(prefect.__version__)"])
        .kill_on_drop(true)
        .output();
    let found = match tokio::time::timeout(PYTHON_LIMIT, asked).await {
        Err(_) => return doubtful(what, format!("{} does not answer", program.display())),
        Ok(Err(error)) => {
            return doubtful(
                what,
                format!("{}: {error}; Python flows need one", program.display()),
            );
        }
        Ok(Ok(found)) => found,
    };
    let said = String::from_utf8_lossy(&found.stdout);
    if found.status.success() {
        good(
            what,
            format!("{} has Prefect {}", program.display(), said.trim()),
        )
    } else {
        doubtful(
            what,
            format!(
                "{} has no prefect package; Python flows need it: activate its environment, or give --python",
                program.display()
            ),
        )
    }
}

fn good(what: &'static str, detail: String) -> Finding {
    Finding {
        what,
        verdict: Verdict::Good,
        detail,
    }
}

fn doubtful(what: &'static str, detail: String) -> Finding {
    Finding {
        what,
        verdict: Verdict::Doubtful,
        detail,
    }
}

fn bad(what: &'static str, detail: String) -> Finding {
    Finding {
        what,
        verdict: Verdict::Bad,
        detail,
    }
}
