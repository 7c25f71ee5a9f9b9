//! An image of the program for the node of the tests' own cluster, of the program and what it is linked with.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use crate::files::root;

/// Where the program is in it.
const PROGRAM: &str = "/usr/local/bin/worker";

/// Gives the node an image of this name whose entrypoint is the program.
///
/// # Panics
///
/// When it cannot be made, or the cluster is not one that takes it.
pub fn load(program: &str, name: &str) {
    let folder = tempfile::tempdir().expect("there is room");
    // Who runs it is not who made it.
    let readable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), readable).expect("it is ours");
    copy(Path::new(program), folder.path(), PROGRAM);
    fs::create_dir(folder.path().join("tmp")).expect("there is room");
    let linked = Command::new("ldd").arg(program).output();
    let linked = linked.expect("ldd can be run").stdout;
    let linked = String::from_utf8_lossy(&linked).into_owned();
    let libraries = linked
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for library in libraries {
        copy(Path::new(library), folder.path(), library);
    }
    let loaded = Command::new("tests/kubernetes/cluster")
        .current_dir(root())
        .args(["load", name])
        .arg(folder.path())
        .arg(format!("{{\"Entrypoint\": [\"{PROGRAM}\"]}}"))
        .output()
        .expect("the script can be run");
    assert!(loaded.status.success(), "{loaded:?}");
}

fn copy(file: &Path, root: &Path, to: &str) {
    let to = root.join(to.trim_start_matches('/'));
    let folder = to.parent().expect("it is below the root");
    fs::create_dir_all(folder).expect("there is room");
    fs::copy(file, &to).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}
