//! `worker server`: the embedded API alone.

use std::process::ExitCode;

use super::{context::Context, out::Out};
use crate::{
    embedded::{Embedded, Stay},
    telemetry,
};

pub(crate) async fn serve(context: Context, out: Out) -> anyhow::Result<ExitCode> {
    telemetry::init(&context.settings.logging, false);
    context.tell_notices(out);
    let embedded = Embedded::attach(
        &context.settings.worker.state_dir,
        &context.settings.server,
        Stay::Lasting,
    )
    .await?;
    out.json(&serde_json::json!({"url": embedded.url, "database": embedded.database}));
    if !embedded.is_ours() {
        out.say(&format!(
            "The embedded API runs already, at {}.",
            embedded.url
        ));
        return Ok(ExitCode::SUCCESS);
    }
    out.say(&format!(
        "The embedded API runs.\n  API   {url}\n  data  {}\nWorkers and the prefect package find it with PREFECT_API_URL={}",
        embedded.database.display(),
        embedded.url.as_str().trim_end_matches('/'),
        url = embedded.url,
    ));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    embedded.stop().await;
    Ok(ExitCode::SUCCESS)
}
