//! What is put into a container between its making and its start: the code of a flow, and an environment that nobody else is to see.

use std::{
    fmt::Write as _,
    io::{self, Write},
    path::PathBuf,
};

use bollard::{Docker, models::ContainerCreateBody, query_parameters::UploadToContainerOptions};
use tokio::sync::mpsc;

use super::{
    error,
    plan::{Plan, WORKSPACE},
};
use crate::{driver::DriverError, fields::refused, job::Environment};

/// The file that a hidden environment is in. Everybody inside the container may read it: which user its process has is the image's affair.
const ENVIRONMENT_FILE: &str = "/opt/prefect-worker/environment";

/// How much of an archive waits for the engine: a slow one slows down the reading.
const CHUNKS: usize = 8;
const CHUNK: usize = 64 * 1024;

/// The container of a plan. Where its environment is hidden, its first process is a shell that reads it and becomes what the image would have started.
pub(super) async fn with_environment(
    engine: &Docker,
    plan: &Plan,
) -> Result<ContainerCreateBody, DriverError> {
    let mut body = plan.body.0.clone();
    if plan.hidden_environment.is_none() {
        return Ok(body);
    }
    let entrypoint = match body.entrypoint.take() {
        Some(entrypoint) => entrypoint,
        None => match engine.inspect_image(&plan.image).await {
            Ok(image) => image
                .config
                .and_then(|config| config.entrypoint)
                .unwrap_or_default(),
            Err(error) if error::is_missing(&error) => Vec::new(),
            Err(error) => return Err(error::unavailable(&error)),
        },
    };
    let script = format!("set -a; . {ENVIRONMENT_FILE}; set +a; exec \"$@\"");
    let shell = ["/bin/sh", "-c", &script, "sh"].map(str::to_owned);
    body.entrypoint = Some(shell.into_iter().chain(entrypoint).collect());
    Ok(body)
}

/// Puts everything in that has to be there before the start.
pub(super) async fn copy(engine: &Docker, plan: &Plan, container: &str) -> Result<(), DriverError> {
    if let Some(environment) = &plan.hidden_environment {
        let text = spell(environment)?;
        let archive = move |tar: &mut Archive| tar.file(ENVIRONMENT_FILE, text.as_bytes());
        upload(engine, container, archive).await?;
    }
    if let Some(from) = plan.workspace.clone() {
        upload(engine, container, move |tar| tar.folder(from)).await?;
    }
    Ok(())
}

/// An environment as a shell reads it.
fn spell(environment: &Environment) -> Result<String, DriverError> {
    let mut text = String::new();
    for (name, value) in &environment.0 {
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
            return Err(refused(
                &format!("env.{name}"),
                "is no name that a shell can pass on, which it has to where the environment comes in a file",
            ));
        }
        let quoted = value.replace('\'', r"'\''");
        writeln!(text, "{name}='{quoted}'").expect("it is memory");
    }
    Ok(text)
}

/// Streams an archive into a container while it is made, on a thread that may wait for the file system.
async fn upload(
    engine: &Docker,
    container: &str,
    fill: impl FnOnce(&mut Archive) -> io::Result<()> + Send + 'static,
) -> Result<(), DriverError> {
    let (chunks_tx, chunks_rx) = mpsc::channel(CHUNKS);
    let filling = tokio::task::spawn_blocking(move || {
        let mut archive = Archive::new(Chunks {
            chunks_tx,
            chunk: Vec::with_capacity(CHUNK),
        });
        fill(&mut archive)?;
        archive.finish()
    });
    let body = bollard::body_stream(tokio_stream::wrappers::ReceiverStream::new(chunks_rx));
    let options = UploadToContainerOptions {
        path: "/".to_owned(),
        ..UploadToContainerOptions::default()
    };
    let sent = engine
        .upload_to_container(container, Some(options), body)
        .await;
    let filled = filling
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    match (sent, filled) {
        // The engine's word comes first: what it does not take any more shows here as a broken pipe.
        (Err(error), _) => Err(error::refusal("workspace", &error)),
        (Ok(()), Err(error)) => Err(DriverError::Unavailable {
            engine: "workspace",
            reason: format!("cannot be read: {error}"),
        }),
        (Ok(()), Ok(())) => Ok(()),
    }
}

/// An archive on its way to the engine. What is in it may be read and written by everybody in the container: its user is the image's affair, and it
/// is alone there.
struct Archive(tar::Builder<Chunks>);

// === impl Archive ===

impl Archive {
    fn new(chunks: Chunks) -> Self {
        let mut builder = tar::Builder::new(chunks);
        builder.follow_symlinks(false);
        Self(builder)
    }

    fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        self.0
            .append_data(&mut header, path.trim_start_matches('/'), content)
    }

    /// A directory with all that is in it.
    fn folder(&mut self, from: PathBuf) -> io::Result<()> {
        let to = PathBuf::from(WORKSPACE.trim_start_matches('/'));
        let mut left = vec![(from, to)];
        while let Some((from, to)) = left.pop() {
            let metadata = std::fs::symlink_metadata(&from)?;
            let mut header = tar::Header::new_gnu();
            header.set_metadata_in_mode(&metadata, tar::HeaderMode::Complete);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mode(header.mode()? | if metadata.is_dir() { 0o777 } else { 0o666 });
            if metadata.is_dir() {
                header.set_size(0);
                self.0.append_data(&mut header, &to, io::empty())?;
                for entry in std::fs::read_dir(&from)? {
                    let entry = entry?;
                    left.push((entry.path(), to.join(entry.file_name())));
                }
            } else if metadata.is_symlink() {
                header.set_size(0);
                self.0
                    .append_link(&mut header, &to, std::fs::read_link(&from)?)?;
            } else if metadata.is_file() {
                let file = std::fs::File::open(&from)?;
                self.0.append_data(&mut header, &to, file)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        self.0.into_inner()?.flush()
    }
}

/// Gathers what is written into pieces, and hands each on when it is full.
struct Chunks {
    chunks_tx: mpsc::Sender<bytes::Bytes>,
    chunk: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        let sent = self.chunks_tx.blocking_send(chunk.into());
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests;
