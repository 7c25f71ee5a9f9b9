//! `worker pull`: the pull steps of a deployment, or of a file, into a directory. For init containers, and for people.

use std::{
    fs::{self, DirBuilder},
    io::Read,
    os::unix::fs::DirBuilderExt,
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use worker_api::{Client, types::BlockDocumentId};
use worker_config::{
    step_list,
    template::{Lookups, References},
};
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

/// People, who watch.
struct Told(Out);

#[async_trait]
impl Outside for Told {
    async fn tell(&self, _level: Level, message: String) {
        self.0.notice(&message);
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
    telemetry::init(&context.settings.logging);
    let mut base = std::env::current_dir().context("the current directory")?;
    let written = match (&deployment, &steps) {
        (Some(deployment), _) => {
            let api = context.api(None).await?;
            let found = find_deployment(&api, deployment).await?;
            api.end().await;
            if let Some(path) = found.path {
                base.push(path);
            }
            found.pull_steps.unwrap_or_default()
        }
        (None, Some(file)) => read_steps(file)?,
        (None, None) => return Err(Usage("give --deployment or --steps".to_owned()).into()),
    };
    let steps: Vec<Step> = written
        .iter()
        .filter(|step| !step.is_empty())
        .map(|step| Step::parse(step, true))
        .collect::<Result<_, _>>()?;
    let lookups = look_up(&context, &steps).await?;
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
    let environment = std::env::vars_os();
    let environment = environment
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let shell = Shell {
        environment: environment.collect(),
        python: context.settings.process.python.clone(),
    };
    let runner = Runner {
        git: &Git::new(pull::git_options(&context.settings))?,
        terms: &pull::terms(),
        operation: &operation,
        outside: &Told(out),
        lookups,
        shell: Some(&shell),
        base,
        workspace,
    };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut running = std::pin::pin!(runner.run(steps));
    tokio::select! {
        done = running.as_mut() => return Ok(done?),
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    cancelled.cancel();
    Ok(running.await?)
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

/// Reads what the steps refer to; who refers to nothing needs no API.
async fn look_up(context: &Context, steps: &[Step]) -> anyhow::Result<Lookups> {
    let mut lookups = Lookups::default();
    let all: Vec<References> = steps.iter().map(Step::references).collect();
    if all.iter().all(References::is_empty) {
        return Ok(lookups);
    }
    let api = context.api(None).await?;
    for references in all {
        let missing = lookups.missing(references);
        lookups.extend(fetch(&api.client, &missing).await?);
    }
    api.end().await;
    Ok(lookups)
}

async fn fetch(client: &Client, references: &References) -> anyhow::Result<Lookups> {
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
