//! A directory of this machine.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{SourceError, ambient::Ambient, fetch::Tally, inputs::Inputs};
use crate::Operation;

/// The file that says what is left out.
const IGNORE_FILE: &str = ".prefectignore";

/// A directory, as people wrote it.
#[derive(Clone, Debug)]
pub struct Disk {
    path: String,
    /// Whether the file of patterns is heeded: the reference does for its block and not for URLs.
    heeds_ignore_file: bool,
}

/// One copy.
struct Copy<'a> {
    operation: &'a Operation,
    tally: &'a Tally,
    from: &'a Path,
    ignored: Gitignore,
    /// What must not be copied into itself: where the files are going, and where they are until then.
    target: &'a Path,
    tree: &'a Path,
}

// === impl Disk ===

impl Disk {
    pub(super) fn new(path: &str, heeds_ignore_file: bool) -> Self {
        Self {
            path: path.to_owned(),
            heeds_ignore_file,
        }
    }

    /// From a `LocalFileSystem` block, whose base is the present directory where it has none.
    pub(super) fn of_block(data: Inputs<'_>) -> Result<Self, SourceError> {
        Ok(Self::new(data.find_text("basepath")?.unwrap_or("."), true))
    }

    /// Copies everything that is not ignored to `tree`; symbolic links stay what they are. Blocks.
    pub(super) fn copy(
        &self,
        operation: &Operation,
        ambient: &Ambient,
        (tree, target): (&Path, &Path),
        tally: &Tally,
    ) -> io::Result<()> {
        let from = self.directory(ambient);
        let mut patterns = GitignoreBuilder::new(&from);
        let file = from.join(IGNORE_FILE);
        if self.heeds_ignore_file
            && file.exists()
            && let Some(error) = patterns.add(&file)
        {
            return Err(io::Error::other(error));
        }
        let ignored = patterns.build().map_err(io::Error::other)?;
        let copy = Copy {
            operation,
            tally,
            from: &from,
            ignored,
            target,
            tree,
        };
        copy.directory(&from, tree)
    }

    pub(super) fn directory(&self, ambient: &Ambient) -> PathBuf {
        ambient.expand(&self.path)
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.path)
    }
}

// === impl Copy ===

impl Copy<'_> {
    fn directory(&self, from: &Path, to: &Path) -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            if self.operation.cancelled.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let inside = path.strip_prefix(self.from).unwrap_or(&path);
            if self.ignored.matched(inside, kind.is_dir()).is_ignore()
                || path == self.target
                || self.tree.starts_with(&path)
            {
                continue;
            }
            let target = to.join(entry.file_name());
            if kind.is_dir() {
                fs::create_dir(&target)?;
                self.directory(&path, &target)?;
            } else if kind.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&path)?, &target)?;
                self.tally.count(self.operation, 0);
            } else if kind.is_file() {
                let size = fs::copy(&path, &target)?;
                self.tally.count(self.operation, size);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
