//! The command line: `worker --pool NAME`, and everything people do around it.

mod args;
mod cancel;
mod context;
mod credentials;
mod crew;
mod doctor;
mod exec;
mod follow;
mod logs;
mod out;
mod pause;
mod pool;
mod ps;
mod pull;
mod reference;
mod render;
mod run;
mod serve;
mod start;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command, DoctorArgs, ServerArgs, StartArgs};
use context::{Context, exit_code};
use out::Out;
use worker_config::settings::Flags;

/// How many threads carry the runtime at most. The worker waits far more than it computes.
const MOST_THREADS: usize = 4;

/// How many threads may block at once, for all pools of a process: a git clone, the start and the end of a subprocess, the look-up of a name.
///
/// It bounds no pulls; `start_concurrency` does, for each pool. It is far more than several pools are likely to have together (16 each where nobody
/// says more), so that clones from a slow server do not hold up the jobs of other pools. A thread that has nothing to do goes away.
const MOST_BLOCKING: usize = 512;

/// The program, from its arguments to its exit code: 0 done; 1 the run or check failed, or what was named is not there; 2 usage; 78 configuration.
pub fn main() -> ExitCode {
    // The same program is the shim around each subprocess job, and must be it before anything else is set up.
    if let Some(code) = worker_drivers::subprocess::run_if_shim() {
        return code;
    }
    let cli = Cli::parse();
    let out = Out::new(cli.global.json).for_errors_as_json(cli.global.log_json);
    // It fails only when a provider is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(
            std::thread::available_parallelism().map_or(2, |n| n.get().min(MOST_THREADS)),
        )
        .max_blocking_threads(MOST_BLOCKING)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            out.error(&anyhow::Error::from(error).context("cannot start the runtime"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match Box::pin(dispatch(cli, out)).await {
            Ok(code) => code,
            Err(error) => {
                out.error(&error);
                exit_code(&error)
            }
        }
    });
    // What still blocks then is a clone or a removal whose life is over; waiting for it would only delay the exit.
    runtime.shutdown_background();
    code
}

async fn dispatch(cli: Cli, out: Out) -> anyhow::Result<ExitCode> {
    let Cli {
        global,
        start: start_args,
        command,
    } = cli;
    let context = |args: &StartArgs| Context::load(context::flags(&global, args), out);
    match command {
        None => start::start(context(&start_args)?, out).await,
        Some(Command::Start(args)) => start::start(context(&args)?, out).await,
        Some(Command::Server(ServerArgs { host, port })) => {
            let flags = context::flags(&global, &start_args);
            let flags = Flags {
                server_host: host,
                server_port: port,
                serve: true,
                ..flags
            };
            serve::serve(Context::load(flags, out)?, out).await
        }
        Some(Command::Exec(args)) => exec::exec(context(&start_args)?, out, args).await,
        Some(Command::Run(args)) => run::run(context(&start_args)?, out, args).await,
        Some(Command::Ps(args)) => ps::ps(context(&start_args)?, out, args).await,
        Some(Command::Logs(args)) => logs::logs(context(&start_args)?, out, args).await,
        Some(Command::Cancel(args)) => cancel::cancel(context(&start_args)?, out, args).await,
        Some(Command::Pool(command)) => pool::pool(context(&start_args)?, out, command).await,
        Some(Command::Pause(args)) => pause::pause(&context(&start_args)?, out, &args),
        Some(Command::Resume(args)) => pause::resume(&context(&start_args)?, out, &args),
        Some(Command::Pull(args)) => pull::pull(context(&start_args)?, out, args).await,
        Some(Command::Render(args)) => render::render(context(&start_args)?, out, args).await,
        Some(Command::Completions { shell }) => {
            reference::completions(shell);
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Man { into }) => reference::manual(&into).map(|()| ExitCode::SUCCESS),
        Some(Command::Reference { page }) => {
            reference::page(page);
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Doctor(args)) => {
            let DoctorArgs {
                pool,
                kind,
                image,
                unit,
                python,
            } = args;
            let args = StartArgs {
                pool: if pool.is_empty() {
                    start_args.pool.clone()
                } else {
                    pool
                },
                kind: kind.map_or_else(|| start_args.kind.clone(), |kind| vec![kind]),
                python: python.or_else(|| start_args.python.clone()),
                ..start_args
            };
            let asked = doctor::Asked { image, unit };
            doctor::doctor(context::flags(&global, &args), out, asked).await
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_the_reference_worker_are_accepted() {
        let line = "worker --pool p --name n -q a --work-queue b --type process --prefetch-seconds 5 --run-once \
                    --limit 3 --with-healthcheck --install-policy never --create-pool-if-not-found";
        let cli = Cli::try_parse_from(line.split_whitespace()).expect("accepted");
        assert_eq!(cli.start.work_queue, ["a", "b"]);
    }
}
