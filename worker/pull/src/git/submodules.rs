//! Which submodules a commit has, and where they come from. Fetching them is the same as fetching anything.

use git2::{ObjectType, Oid, Repository, TreeWalkMode, TreeWalkResult};

use super::{Address, GitError, cone::Cone};

/// A submodule of one commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Submodule {
    /// Where it stands, as the tree has it: no part of it can be a link, or lead outside.
    pub(super) path: String,
    pub(super) address: Address,
    pub(super) commit: Oid,
}

/// The submodules of what a clone has checked out, of those directories only that were asked for.
pub(super) fn of(
    clone: &Repository,
    address: &Address,
    directories: &[String],
) -> Result<Vec<Submodule>, GitError> {
    let failed = |source| GitError::Failed {
        doing: "read the submodules of",
        repository: address.to_string(),
        source,
    };
    let sparse = Cone::new(directories);
    let tree = clone.head().and_then(|head| head.peel_to_tree());
    let mut links: Vec<(String, Oid)> = Vec::new();
    tree.and_then(|tree| {
        tree.walk(TreeWalkMode::PreOrder, |parent, entry| {
            if entry.kind() == Some(ObjectType::Commit)
                && let Ok(name) = entry.name()
            {
                links.push((format!("{parent}{name}"), entry.id()));
            }
            TreeWalkResult::Ok
        })
    })
    .map_err(failed)?;
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let urls = urls(clone).map_err(failed)?;
    links
        .into_iter()
        .filter(|(path, _)| sparse.as_ref().is_none_or(|cone| cone.has(path)))
        .filter_map(|(path, commit)| {
            // A link that `.gitmodules` does not know stays an empty directory, as with git.
            let (_, url) = urls.iter().find(|(known, _)| *known == path)?;
            let address = address.of_submodule(url);
            Some((path, commit, address))
        })
        .map(|(path, commit, found)| match found {
            Ok(address) => Ok(Submodule {
                path,
                address,
                commit,
            }),
            Err(source) => Err(GitError::Submodule {
                repository: address.to_string(),
                path,
                source,
            }),
        })
        .collect()
}

/// Paths and addresses, as `.gitmodules` has them.
fn urls(clone: &Repository) -> Result<Vec<(String, String)>, git2::Error> {
    let Some(root) = clone.workdir() else {
        return Ok(Vec::new());
    };
    let file = root.join(".gitmodules");
    // A link could lead anywhere.
    if !file.symlink_metadata().is_ok_and(|file| file.is_file()) {
        return Ok(Vec::new());
    }
    let config = git2::Config::open(&file)?;
    let mut urls = Vec::new();
    let mut entries = config.entries(Some(r"^submodule\..*\.path$"))?;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let (Ok(name), Ok(path)) = (entry.name(), entry.value()) else {
            continue;
        };
        let Some(section) = name.strip_suffix(".path") else {
            continue;
        };
        if let Ok(url) = config.get_string(&format!("{section}.url")) {
            urls.push((path.trim_matches('/').to_owned(), url));
        }
    }
    Ok(urls)
}

#[cfg(test)]
mod tests;
