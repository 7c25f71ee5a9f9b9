//! Deployments whose code is in a storage block, as those of 2.x are: what the reference makes of block and path, as a pull step.

use serde_json::{Map, Value, json};

use worker_api::types::{BlockDocument, BlockDocumentId};
use worker_config::template::Lookups;
use worker_pull::steps::Step;

use crate::{journal::NotStarted, line::Line, services::Services, sources};

/// A step that pulls with the block, and the block; or why there is none.
pub(crate) type Stored = Result<(Step, Lookups), String>;

/// Reads the block of a deployment. `path` is the deployment's own, below what the block names.
pub(super) async fn read(
    services: &Services,
    line: &mut Line,
    id: BlockDocumentId,
    path: Option<&str>,
    here: bool,
) -> Result<Stored, NotStarted> {
    let read = sources::insist(line, || services.client.read_block_document_by_id(id)).await?;
    let Some(block) = sources::found(read)? else {
        return Ok(Err(format!("its storage block {} is gone", id.0)));
    };
    Ok(step(block, path, here))
}

/// The step. A block without a name is called by its id, as the directory is that it is pulled to.
pub(crate) fn step(block: BlockDocument, path: Option<&str>, here: bool) -> Stored {
    let BlockDocument {
        id,
        name,
        mut data,
        block_type,
    } = block;
    let Some(slug) = block_type.map(|one| one.slug) else {
        return Err("the server does not say what its storage block is".to_owned());
    };
    let name = name.unwrap_or_else(|| id.0.to_string());
    if slug == "local-file-system" && !here {
        return Err("its storage block names a directory of the job's own".to_owned());
    }
    if let Some(path) = path.filter(|path| !matches!(*path, "" | "." | "./")) {
        enter(&slug, &mut data, path)?;
    }
    let inputs = json!({"block_type_slug": slug, "block_document_name": name});
    let written = Map::from_iter([(
        "prefect.deployments.steps.pull_with_block".to_owned(),
        inputs,
    )]);
    let step = Step::parse(&written, false).map_err(|unsupported| unsupported.to_string())?;
    let mut lookups = Lookups::default();
    lookups.blocks.insert((slug, name), Some(data));
    Ok((step, lookups))
}

/// Makes the block's place the one that a path below it names, by the rules of the block's own `get_directory` (3.8.8).
fn enter(slug: &str, data: &mut Map<String, Value>, path: &str) -> Result<(), String> {
    let (field, below) = match slug {
        // The path is the whole prefix: the folder of the block does not count then.
        "s3-bucket" => ("bucket_folder", false),
        "gcs-bucket" => ("bucket_folder", true),
        "azure-blob-storage-container" => ("base_folder", true),
        "local-file-system" | "remote-file-system" => ("basepath", true),
        _ => {
            return Err(format!(
                "this worker does not know what the path '{path}' is in a block of type {slug}"
            ));
        }
    };
    let base = data.get(field).and_then(Value::as_str).unwrap_or_default();
    let base = base.trim_end_matches('/');
    let whole =
        if !below || path == base || (!base.is_empty() && path.starts_with(&format!("{base}/"))) {
            path.to_owned()
        } else if path.starts_with('/') && slug == "local-file-system" {
            return Err(format!("its path {path} is outside of its storage block"));
        } else {
            format!("{base}/{}", path.trim_start_matches('/'))
        };
    let leaves = whole.split('/').any(|part| part == "..");
    if leaves {
        return Err(format!("its path {path} leads out of its storage block"));
    }
    data.insert(field.to_owned(), whole.into());
    Ok(())
}

#[cfg(test)]
mod tests;
