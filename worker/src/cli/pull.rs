//! `worker pull`: the pull steps of a deployment, or of a file, into a directory. For init containers, and for people.

use std::{
    fs::{self, DirBuilder},
    io::Read,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use worker_api::{Client, types::BlockDocumentId};
use worker_config::{
    Secret, step_list,
    template::{Lookups, References},
};
use worker_drivers::Environment;
use worker_pull::{
    Operation,
    git::Git,
    steps::{Level, Outside, Pulled, Runner, Shell, Step},
};

use super::{
    args::PullArgs,
    context::{Context, Usage},
    out::Out,
    run::find_deployment,
};
use crate::{pull, telemetry};

/// What is to be pulled.
struct Wanted {
    steps: Vec<Step>,
    lookups: Lookups,
    /// Where relative paths begin that were written before anything was pulled.
    base: PathBuf,
}

/// People, who watch.
struct Told<'a> {
    context: &'a Context,
    out: Out,
}

#[async_trait]
impl Outside for Told<'_> {
    async fn tell(&self, _level: Level, message: String) {
        self.out.notice(&message);
    }

    async fn github_token(&self, owner: &str, repository: &str) -> Result<Secret, String> {
        let api = self.context.api(None).await;
        let api = api.map_err(|error| format!("{error:#}"))?;
        let token = pull::github_token(&api.client, owner, repository).await;
        api.end().await;
        token
    }

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

pub(crate) async fn pull(context: Context, out: Out, args: PullArgs) -> anyhow::Result<ExitCode> {
    let PullArgs {
        into,
        deployment,
        steps,
        manifest,
        link,
    } = args;
    telemetry::init(&context.settings.logging, false);
    let Wanted {
        steps,
        mut lookups,
        base,
    } = match (&deployment, &steps) {
        (Some(deployment), _) => of_deployment(&context, deployment).await?,
        (None, Some(file)) => Wanted {
            steps: parse(&read_steps(file)?)?,
            lookups: Lookups::default(),
            base: here()?,
        },
        (None, None) => return Err(Usage("give --deployment or --steps".to_owned()).into()),
    };
    look_up(&context, &steps, &mut lookups).await?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&into)
        .with_context(|| format!("cannot make {}", into.display()))?;
    let into = fs::canonicalize(&into).with_context(|| into.display().to_string())?;
    let pulled = run(&context, out, &steps, &lookups, (&base, &into)).await?;
    let told = json!({"directory": pulled.directory, "steps": pulled.done});
    if let Some(path) = manifest {
        let text = serde_json::to_string_pretty(&told)?;
        fs::write(&path, text + "\n").with_context(|| path.display().to_string())?;
    }
    if let Some(link) = link {
        let target = pulled.directory.as_ref().unwrap_or(&into);
        std::os::unix::fs::symlink(target, &link)
            .with_context(|| format!("cannot make the link {}", link.display()))?;
    }
    for done in &pulled.done {
        let commit = done.commit.as_deref().unwrap_or_default();
        let source = done.source.as_deref().unwrap_or_default();
        out.say(format!("{} {source} {commit}", done.step).trim_end());
    }
    if let Some(directory) = &pulled.directory {
        out.say(&format!("The code is in {}.", directory.display()));
    }
    out.json(&told);
    Ok(ExitCode::SUCCESS)
}

/// Runs the steps until they end, or until somebody ends this program: then they are ended first.
async fn run(
    context: &Context,
    out: Out,
    steps: &[Step],
    lookups: &Lookups,
    (base, workspace): (&Path, &Path),
) -> anyhow::Result<Pulled> {
    let cancelled = CancellationToken::new();
    let operation = Operation {
        cancelled: cancelled.clone(),
        progress: Arc::new(move |line| out.notice(&line)),
    };
    let shell = Shell {
        environment: Environment::of_process().0,
        python: context.settings.process.python.clone(),
    };
    let runner = Runner {
        git: &Git::new(pull::git_options(&context.settings))?,
        terms: &pull::terms(&context.settings),
        operation: &operation,
        outside: &Told { context, out },
        lookups,
        shell: Some(&shell),
        base,
        workspace,
    };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let limit = context.settings.pull.timeout;
    let mut running = std::pin::pin!(runner.run(steps));
    let mut too_long = None;
    tokio::select! {
        done = running.as_mut() => return Ok(done?),
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        () = tokio::time::sleep(limit) => too_long = Some(pull::too_long(limit)),
    }
    cancelled.cancel();
    let ended = running.await;
    match too_long {
        Some(why) => anyhow::bail!(why),
        None => Ok(ended?),
    }
}

fn read_steps(file: &Path) -> anyhow::Result<Vec<Map<String, Value>>> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    }
    Ok(step_list::parse(&text)?)
}

/// The pull steps of a deployment, or its storage block.
async fn of_deployment(context: &Context, name: &str) -> anyhow::Result<Wanted> {
    let api = context.api(None).await?;
    let found = find_deployment(&api, name).await?;
    let written = found.pull_steps.unwrap_or_default();
    let mut base = here()?;
    let (steps, lookups) = match found.storage_document_id {
        Some(block) if written.iter().all(Map::is_empty) => {
            let block = api.client.read_block_document_by_id(block).await?;
            let stored = pull::stored_step(block, found.path.as_deref(), true);
            let (step, lookups) = stored.map_err(anyhow::Error::msg)?;
            (vec![step], lookups)
        }
        _ => {
            base.extend(found.path);
            (parse(&written)?, Lookups::default())
        }
    };
    api.end().await;
    Ok(Wanted {
        steps,
        lookups,
        base,
    })
}

fn parse(written: &[Map<String, Value>]) -> anyhow::Result<Vec<Step>> {
    let steps = written.iter().filter(|step| !step.is_empty());
    let steps = steps.map(|step| Step::parse(step, true));
    Ok(steps.collect::<Result<_, _>>()?)
}

fn here() -> anyhow::Result<PathBuf> {
    std::env::current_dir().context("the current directory")
}

/// Reads what the steps refer to; who refers to nothing needs no API.
async fn look_up(context: &Context, steps: &[Step], lookups: &mut Lookups) -> anyhow::Result<()> {
    let missing = |lookups: &Lookups| -> Vec<References> {
        let all = steps.iter().map(|step| lookups.missing(step.references()));
        all.filter(|missing| !missing.is_empty()).collect()
    };
    if missing(lookups).is_empty() {
        return Ok(());
    }
    let api = context.api(None).await?;
    for references in missing(lookups) {
        lookups.extend(fetch(&api.client, &references).await?);
    }
    api.end().await;
    Ok(())
}

pub(super) async fn fetch(client: &Client, references: &References) -> anyhow::Result<Lookups> {
    let mut lookups = Lookups::default();
    for (slug, name) in &references.blocks {
        let read = client.read_block_document(slug, name).await;
        let data = found(read)?.map(|block| block.data);
        lookups.blocks.insert((slug.clone(), name.clone()), data);
    }
    for id in &references.block_documents {
        let parsed: BlockDocumentId = id.parse().context("the id of a block document")?;
        let read = client.read_block_document_by_id(parsed).await;
        let data = found(read)?.map(|block| block.data);
        lookups.block_documents.insert(id.clone(), data);
    }
    for name in &references.variables {
        let value = client.find_variable(name).await?.map(|one| one.value);
        lookups.variables.insert(name.clone(), value);
    }
    Ok(lookups)
}

fn found<T>(read: Result<T, worker_api::ApiError>) -> anyhow::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
