//! Runs pull steps and says how long they took and how much memory: the bench beside the reference uses it, and people may.
//!
//! `cargo run -p worker-pull --example pull -- STEPS DIRECTORY CACHE`, where STEPS is a file with a list of steps.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::{fs, path::Path, process::ExitCode, sync::Arc, time::Instant};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use worker_config::{step_list, template::Lookups};
use worker_pull::{
    Operation,
    blob::Terms,
    git::{Bounds, Git, Options, Patience},
    steps::{Level, Outside, Pulled, Runner, Step},
};

struct Nobody;

#[async_trait]
impl Outside for Nobody {
    async fn tell(&self, _level: Level, _message: String) {}

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [steps, directory, cache] = arguments.as_slice() else {
        eprintln!("usage: pull STEPS DIRECTORY CACHE");
        return ExitCode::from(2);
    };
    let started = Instant::now();
    match run(steps, Path::new(directory), Path::new(cache)).await {
        Ok(pulled) => {
            let report = serde_json::json!({
                "seconds": started.elapsed().as_secs_f64(),
                "peak_kib": peak(),
                "outputs": pulled.outputs,
            });
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(steps: &str, directory: &Path, cache: &Path) -> Result<Pulled, String> {
    let text = fs::read_to_string(steps).map_err(|error| error.to_string())?;
    let written = step_list::parse(&text).map_err(|error| error.to_string())?;
    let steps = written.iter().map(|step| Step::parse(step, false));
    let steps: Vec<Step> = steps
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let git = Git::new(Options {
        cache: cache.to_owned(),
        bounds: Bounds::default(),
        patience: Patience::default(),
        certificates: None,
        ssh: vec!["ssh".to_owned()],
        lfs: true,
    });
    let runner = Runner {
        git: &git.map_err(|error| error.to_string())?,
        terms: &Terms::of_process(),
        operation: &Operation {
            cancelled: CancellationToken::new(),
            progress: Arc::new(|line| eprintln!("{line}")),
        },
        outside: &Nobody,
        lookups: &Lookups::default(),
        shell: None,
        base: directory,
        workspace: directory,
    };
    let ran = runner.run(&steps).await;
    ran.map_err(|failed| format!("{failed}: {}", failed.source))
}

/// The most memory that this process had, in KiB.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
