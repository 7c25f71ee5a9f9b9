//! The directory that a flow run's code is pulled to, and the one that it is in where nothing is pulled.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use worker_drivers::RunKey;

use super::Code;
use crate::{
    journal::{Entry, NotStarted},
    services::Services,
};

/// The attempt's own directory, empty.
pub(super) fn make(services: &Services, entry: &mut Entry) -> Result<PathBuf, NotStarted> {
    let path = path_of(&services.state_dir.workspaces(), entry.key);
    let failed = |error: io::Error| {
        NotStarted::Failed(format!(
            "cannot make the workspace {}: {error}",
            path.display()
        ))
    };
    // What an earlier process left of this attempt is half a workspace.
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .map_err(failed)?;
    entry.workspace = Some(path.clone());
    Ok(path)
}

/// Where the workspace of an attempt is.
pub(super) fn path_of(workspaces: &Path, key: RunKey) -> PathBuf {
    workspaces.join(key.to_string())
}

/// A deployment without pull steps has its code in its path; without one, the code is wherever the job starts.
pub(super) fn in_path(path: Option<&str>) -> Result<Code, NotStarted> {
    match path {
        None | Some("" | ".") => Ok(Code::InPlace),
        Some(path) if Path::new(path).is_dir() => Ok(Code::At(PathBuf::from(path))),
        Some(path) => Err(NotStarted::Failed(format!(
            "the deployment's path {path} is not a directory on this machine"
        ))),
    }
}
