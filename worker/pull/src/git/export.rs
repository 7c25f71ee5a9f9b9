//! From a repository on this machine to a clone of one commit in a directory of its own.
//!
//! The clone is whole: it has a branch or a detached head, an `origin`, and the objects of its commit. It is made beside its place and renamed
//! into it, so nobody sees half of one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use git2::{Repository, RepositoryInitOptions, build::CheckoutBuilder};

use super::{
    GitError,
    cache::remove,
    cone::Cone,
    context::Context,
    mirror::{Name, Wanted},
};

/// Up to this many bytes of objects are copied into each clone, which then can be taken anywhere. More than that stays where it is and the clone
/// refers to it: git commands in it work for as long as the mirror is there, its files always.
const MOST_COPIED: u64 = 128 << 20;

/// The mode of a file that is not written though the index has it.
const SKIP_WORKTREE: u16 = 1 << 14;

/// A clone in the making.
pub(super) struct Export<'a> {
    pub(super) context: &'a Context,
    /// Where the objects are.
    pub(super) source: &'a Repository,
    pub(super) wanted: &'a Wanted,
    /// Which directories are written; all of them when there are none.
    pub(super) directories: &'a [String],
}

// === impl Export ===

impl Export<'_> {
    /// Makes the clone in `into`, which must not be there.
    pub(super) fn make(&self, into: &Path) -> Result<(), GitError> {
        let failed = |source| self.context.failed("check out", Some(source));
        let mut options = RepositoryInitOptions::new();
        options.external_template(false).mkpath(true);
        let clone = Repository::init_opts(into, &options).map_err(failed)?;
        let objects = clone.path().join("objects");
        drop(clone);
        give_objects(&self.source.commondir().join("objects"), &objects)?;
        let clone = Repository::open(into).map_err(failed)?;
        self.name(&clone).map_err(failed)?;
        self.cut_history(&clone)?;
        self.check_out(&clone)?;
        let head = clone.head().and_then(|head| head.peel_to_commit());
        if head.map_err(failed)?.id() != self.wanted.commit {
            return Err(failed(git2::Error::from_str(
                "the head is not the commit that was asked for",
            )));
        }
        Ok(())
    }

    /// Branch or detached head, and `origin`.
    fn name(&self, clone: &Repository) -> Result<(), git2::Error> {
        let commit = self.wanted.commit;
        clone.remote("origin", &self.context.address.to_string())?;
        match &self.wanted.name {
            Name::Branch(name) => {
                let local = format!("refs/heads/{name}");
                clone.reference(&local, commit, true, "fetched")?;
                let remote = format!("refs/remotes/origin/{name}");
                clone.reference(&remote, commit, true, "fetched")?;
                clone.set_head(&local)?;
                let mut config = clone.config()?;
                config.set_str(&format!("branch.{name}.remote"), "origin")?;
                config.set_str(&format!("branch.{name}.merge"), &local)?;
            }
            Name::Tag(name) => {
                let tag = format!("refs/tags/{name}");
                clone.reference(&tag, commit, true, "fetched")?;
                clone.set_head_detached(commit)?;
            }
            Name::Commit => clone.set_head_detached(commit)?,
        }
        Ok(())
    }

    /// Tells git where the history ends, if it does not have all of it.
    fn cut_history(&self, clone: &Repository) -> Result<(), GitError> {
        let failed = |source| self.context.failed("read", Some(source));
        let commit = clone.find_commit(self.wanted.commit).map_err(failed)?;
        let odb = clone.odb().map_err(failed)?;
        let mut text = String::new();
        if commit.parent_ids().any(|parent| !odb.exists(parent)) {
            text = format!("{}\n", self.wanted.commit);
        } else if self.source.is_shallow() {
            let cut = self.source.commondir().join("shallow");
            text = fs::read_to_string(&cut).map_err(GitError::io(cut))?;
        }
        if text.is_empty() {
            return Ok(());
        }
        let path = clone.path().join("shallow");
        fs::write(&path, text).map_err(GitError::io(path))
    }

    fn check_out(&self, clone: &Repository) -> Result<(), GitError> {
        let failed = |source| self.context.failed("check out", Some(source));
        let commit = clone.find_commit(self.wanted.commit).map_err(failed)?;
        let tree = commit.tree().map_err(failed)?;
        let sparse = Cone::new(self.directories);
        let mut checkout = CheckoutBuilder::new();
        checkout
            .force()
            .notify_on(git2::CheckoutNotificationType::all())
            .notify(|_, _, _, _, _| self.context.go_on());
        if let Some(cone) = &sparse {
            checkout.disable_pathspec_match(true);
            for path in cone.paths(clone, &tree).map_err(failed)? {
                checkout.path(path);
            }
        }
        clone
            .checkout_tree(tree.as_object(), Some(&mut checkout))
            .map_err(failed)?;
        if let Some(cone) = &sparse {
            leave_out(clone, &tree).map_err(failed)?;
            let info = clone.path().join("info");
            fs::create_dir_all(&info).map_err(GitError::io(&info))?;
            let path = info.join("sparse-checkout");
            fs::write(&path, cone.patterns()).map_err(GitError::io(path))?;
        }
        Ok(())
    }
}

// === functions ===

/// Makes a clone next to its place with `make`, then puts it there. What was there is gone only then.
pub(super) fn put(
    into: &Path,
    make: impl FnOnce(&Path) -> Result<(), GitError>,
) -> Result<(), GitError> {
    let beside = |end: &str| -> PathBuf {
        let name = into.file_name().unwrap_or_default().to_string_lossy();
        into.with_file_name(format!(".{name}.{end}"))
    };
    let (making, old) = (beside("making"), beside("old"));
    remove(&making).map_err(GitError::io(&making))?;
    let done = make(&making).and_then(|()| {
        if into.exists() {
            remove(&old).map_err(GitError::io(&old))?;
            fs::rename(into, &old).map_err(GitError::io(into))?;
        }
        fs::rename(&making, into).map_err(GitError::io(into))?;
        remove(&old).map_err(GitError::io(&old))
    });
    if done.is_err() {
        // The reason is what matters now; the workspace is removed with its run.
        drop(remove(&making));
    }
    done
}

/// Copies the objects of a repository, or refers to them when that is too much. Copies share their blocks where the file system can do that.
fn give_objects(from: &Path, to: &Path) -> Result<(), GitError> {
    let mut objects = Vec::new();
    let mut total = 0;
    for directory in entries(from)? {
        if !directory.is_dir() {
            continue;
        }
        for object in entries(&directory)? {
            let size = fs::metadata(&object).map_err(GitError::io(&object))?.len();
            total += size;
            objects.push(object);
        }
        if total > MOST_COPIED {
            break;
        }
    }
    // Objects that the source itself only refers to are found by referring to it.
    if total > MOST_COPIED || from.join("info/alternates").exists() {
        let info = to.join("info");
        fs::create_dir_all(&info).map_err(GitError::io(&info))?;
        let path = info.join("alternates");
        let from = fs::canonicalize(from).map_err(GitError::io(from))?;
        return fs::write(&path, format!("{}\n", from.display())).map_err(GitError::io(path));
    }
    for object in objects {
        let Ok(name) = object.strip_prefix(from) else {
            continue;
        };
        let target = to.join(name);
        if let Some(directory) = target.parent() {
            fs::create_dir_all(directory).map_err(GitError::io(directory))?;
        }
        fs::copy(&object, &target).map_err(GitError::io(target))?;
    }
    Ok(())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, GitError> {
    let read = fs::read_dir(directory).map_err(GitError::io(directory))?;
    read.map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(GitError::io(directory))
}

/// Puts into the index what was not written, marked as such, so that git calls nothing deleted.
fn leave_out(clone: &Repository, tree: &git2::Tree<'_>) -> Result<(), git2::Error> {
    let mut whole = git2::Index::new()?;
    whole.read_tree(tree)?;
    let mut index = clone.index()?;
    for mut entry in whole.iter() {
        if index
            .get_path(Path::new(&*String::from_utf8_lossy(&entry.path)), 0)
            .is_none()
        {
            entry.flags_extended |= SKIP_WORKTREE;
            index.add(&entry)?;
        }
    }
    index.write()?;
    let mut config = clone.config()?;
    config.set_bool("core.sparseCheckout", true)?;
    config.set_bool("core.sparseCheckoutCone", true)
}
