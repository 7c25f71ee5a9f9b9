//! Where files arrive before anyone sees them, and how they get to where they belong.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use super::BlobError;

/// The beginning of the names of such directories, which a pull that was killed may leave behind.
const PREFIX: &str = ".pull-";

/// How often the directory is removed before it is left to whoever removes the workspace. A write that was under way when
/// the pull was interrupted may put a file into it meanwhile.
const REMOVALS: u32 = 20;

/// A directory that nobody looks into, on the file system where its content belongs.
#[derive(Debug)]
pub(super) struct Stage {
    home: TempDir,
    tree: PathBuf,
}

// === impl Stage ===

impl Stage {
    /// Makes one in `directory`, which is made if it is not there.
    pub(super) fn within(directory: &Path) -> Result<Self, BlobError> {
        let failed = |source| disk(directory, source);
        fs::create_dir_all(directory).map_err(failed)?;
        let home = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(directory)
            .map_err(failed)?;
        let tree = home.path().join("tree");
        fs::create_dir(&tree).map_err(failed)?;
        Ok(Self { home, tree })
    }

    /// The directory in which files arrive.
    pub(super) fn tree(&self) -> &Path {
        &self.tree
    }

    /// Puts what arrived to `below` in `directory`: by one rename where nothing is there yet, else file by file, and by none at all
    /// where something is in the way.
    pub(super) fn settle(
        &self,
        directory: &Path,
        below: &Path,
        emptied: bool,
    ) -> Result<(), BlobError> {
        let target = directory.join(below);
        make_parents(directory, below)?;
        if emptied && find(&target)?.is_some() {
            let old = self.home.path().join("old");
            fs::rename(&target, old).map_err(|source| disk(&target, source))?;
        }
        if find(&target)?.is_none() {
            return fs::rename(&self.tree, &target).map_err(|source| disk(&target, source));
        }
        merge(&self.tree, &target, false)?;
        merge(&self.tree, &target, true)
    }

    /// Removes what did not get to where it belongs, also where a write that nobody waits for any more is still under way.
    pub(super) async fn discard(self) {
        for _ in 0..REMOVALS {
            let home = self.home.path().to_owned();
            let removed = tokio::task::spawn_blocking(move || {
                let error = fs::remove_dir_all(home).err();
                error.is_none_or(|error| error.kind() == io::ErrorKind::NotFound)
            });
            if removed.await.unwrap_or(true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

// === functions ===

/// Makes the directories above `tree/path`, which must stay below `tree`; an empty file in the way only stood for its directory.
pub(super) fn make_below(tree: &Path, path: &Path) -> io::Result<()> {
    let mut directory = tree.to_owned();
    for part in path.parent().into_iter().flat_map(Path::iter) {
        directory.push(part);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::symlink_metadata(&directory)?;
                if found.is_file() && found.len() == 0 {
                    fs::remove_file(&directory)?;
                    fs::create_dir(&directory)?;
                } else if !found.is_dir() {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
            }
            made => made?,
        }
    }
    Ok(())
}

/// Makes the directories between the two and what is put there, and follows no link on the way.
fn make_parents(directory: &Path, below: &Path) -> Result<(), BlobError> {
    let mut path = directory.to_owned();
    for part in below {
        refuse_link(&path, directory)?;
        path.push(part);
        if path != directory.join(below) && find(&path)?.is_none() {
            fs::create_dir(&path).map_err(|source| disk(&path, source))?;
        }
    }
    refuse_link(&path, directory)
}

fn refuse_link(path: &Path, directory: &Path) -> Result<(), BlobError> {
    // The directory itself is the caller's choice.
    if path != directory && find(path)?.is_some_and(|found| found.is_symlink()) {
        return Err(in_the_way(path));
    }
    Ok(())
}

/// Moves everything in `from` to `to`, or only looks whether it could be.
fn merge(from: &Path, to: &Path, for_real: bool) -> Result<(), BlobError> {
    for entry in fs::read_dir(from).map_err(|source| disk(from, source))? {
        let entry = entry.map_err(|source| disk(from, source))?;
        let target = to.join(entry.file_name());
        let is_directory = entry
            .file_type()
            .map_err(|source| disk(from, source))?
            .is_dir();
        match find(&target)? {
            Some(found) if found.is_dir() && is_directory => {
                merge(&entry.path(), &target, for_real)?;
            }
            Some(found) if found.is_dir() || is_directory => return Err(in_the_way(&target)),
            _ if for_real => {
                fs::rename(entry.path(), &target).map_err(|source| disk(&target, source))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn find(path: &Path) -> Result<Option<fs::Metadata>, BlobError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(disk(path, error)),
    }
}

fn in_the_way(path: &Path) -> BlobError {
    let problem = "a file, a directory or a symbolic link of that name is in the way";
    disk(path, io::Error::new(io::ErrorKind::AlreadyExists, problem))
}

pub(super) fn disk(path: &Path, source: io::Error) -> BlobError {
    BlobError::Disk {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
