//! Runs one pull step and says how long it took and how much memory: the bench beside the reference uses it, and people may.
//!
//! `cargo run -p worker-pull --example pull -- pull_from_s3 '{"bucket": "b", "folder": "f"}' DIRECTORY`

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::{path::Path, process::ExitCode, sync::Arc};

use tokio_util::sync::CancellationToken;
use worker_pull::{
    Operation,
    blob::{Source, Terms, download},
};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [step, inputs, directory] = arguments.as_slice() else {
        eprintln!("usage: pull STEP INPUTS DIRECTORY");
        return ExitCode::from(2);
    };
    let operation = Operation {
        cancelled: CancellationToken::new(),
        progress: Arc::new(|line| eprintln!("{line}")),
    };
    let started = std::time::Instant::now();
    let source = serde_json::from_str(inputs)
        .map_err(|error| error.to_string())
        .and_then(|inputs| Source::from_step(step, &inputs).map_err(|error| error.to_string()));
    let pulled = match source {
        Ok(source) => download(
            &operation,
            &source,
            Path::new(directory),
            &Terms::of_process(),
        )
        .await
        .map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    match pulled {
        Ok(done) => {
            let report = serde_json::json!({
                "seconds": started.elapsed().as_secs_f64(),
                "peak_kib": peak(),
                "files": done.files,
                "outputs": done.outputs,
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

/// The most memory that this process had, in KiB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
