//! `worker pause` and `worker resume`: the workers of this machine, where `worker pool pause` is for a pool and all who serve it.

use std::process::ExitCode;

use serde_json::json;

use super::{
    args::PauseArgs,
    context::{Context, Missing},
    out::Out,
};
use crate::{
    pause,
    state_dir::{self, Known, StateDirError},
};

pub(crate) fn pause(context: &Context, out: Out, args: &PauseArgs) -> anyhow::Result<ExitCode> {
    for known in find(context, args)? {
        let new = pause::pause(&known.path).map_err(|source| failed(&known, source))?;
        let already = if new { "" } else { " already" };
        let Known { worker, pool, .. } = &known;
        out.say(&format!(
            "Worker '{worker}' of work pool '{pool}' is paused{already}: it claims nothing until `worker resume`. What runs goes on."
        ));
        tell(&known, true, out);
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn resume(context: &Context, out: Out, args: &PauseArgs) -> anyhow::Result<ExitCode> {
    for known in find(context, args)? {
        let new = pause::resume(&known.path).map_err(|source| failed(&known, source))?;
        let what = if new { "is resumed" } else { "was not paused" };
        let Known { worker, pool, .. } = &known;
        out.say(&format!("Worker '{worker}' of work pool '{pool}' {what}."));
        tell(&known, false, out);
    }
    Ok(ExitCode::SUCCESS)
}

/// The workers that are meant: all that have been started with this state directory, but for what the arguments say.
fn find(context: &Context, args: &PauseArgs) -> anyhow::Result<Vec<Known>> {
    let PauseArgs { pools, name } = args;
    let settings = &context.settings.worker;
    let mut known = state_dir::known(&settings.state_dir)?;
    known.retain(|one| {
        (pools.is_empty() || pools.contains(&one.pool))
            && name.as_ref().is_none_or(|name| *name == one.worker)
    });
    if known.is_empty() {
        return Err(Missing(format!(
            "no such worker was ever started with its state in {}; give the --state-dir of the one you mean",
            settings.state_dir.display()
        ))
        .into());
    }
    Ok(known)
}

fn tell(known: &Known, paused: bool, out: Out) {
    let Known { worker, pool, path } = known;
    out.json(&json!({"worker": worker, "pool": pool, "paused": paused, "directory": path}));
}

fn failed(known: &Known, source: std::io::Error) -> StateDirError {
    StateDirError::Io {
        path: known.path.clone(),
        source,
    }
}
