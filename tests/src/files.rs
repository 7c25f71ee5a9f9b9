//! Files of this repository, and private copies of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The root of this repository.
///
/// # Panics
///
/// When the crate is not where it belongs, one level below the root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are one level below the root")
        .to_owned()
}

/// A private copy of one of the examples, so that tests do not meet in its directory.
///
/// # Panics
///
/// When there is no such example or it cannot be copied.
pub fn copy_of_example(name: &str, into: &Path) -> PathBuf {
    let copy = into.join(name);
    copy_of(&root().join("examples").join(name), &copy);
    copy
}

/// Copies what git would keep of a directory: hidden directories are what a run left behind.
///
/// # Panics
///
/// When it is not there or cannot be copied.
pub fn copy_of(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made in the test's own directory");
    let entries = fs::read_dir(from)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", from.display()));
    for entry in entries {
        let entry = entry.expect("a directory that was opened can be listed");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if !source.is_dir() {
            fs::copy(&source, &target)
                .unwrap_or_else(|error| panic!("cannot copy {}: {error}", source.display()));
        } else if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            copy_of(&source, &target);
        }
    }
}
