use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::{find_program, prepare_directory};
use crate::{driver::DriverError, subprocess::plan::Directory};

fn file(path: &Path, mode: u32) {
    fs::create_dir_all(path.parent().expect("it has one")).expect("there is room");
    fs::write(path, "#!/bin/sh\n").expect("there is room");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn a_program_is_found_as_a_shell_in_that_directory_would() {
    let root = tempfile::tempdir().expect("there is room");
    let at = |name: &str| root.path().join(name);
    file(&at("one/tool"), 0o644);
    file(&at("two/tool"), 0o755);
    file(&at("work/run.sh"), 0o755);
    fs::create_dir(at("one/dir")).expect("there is room");
    let path = format!("{}:{}", at("one").display(), at("two").display());
    let find = |name: &str| find_program(name, &path, &at("work"));
    assert_eq!(find("tool").expect("it is there"), at("two/tool"));
    assert_eq!(find("./run.sh").expect("it is there"), at("work/./run.sh"));
    assert_eq!(
        find_program("run.sh", ".", &at("work")).expect("it is there"),
        at("work/./run.sh")
    );
    assert_eq!(
        find("../two/tool").expect("it is there"),
        at("work/../two/tool")
    );
    for (name, message) in [
        ("other", format!("program 'other' in PATH {path} not found")),
        ("dir", format!("program 'dir' in PATH {path} not found")),
        ("", format!("program '' in PATH {path} not found")),
        ("/no/such", "program /no/such not found".to_owned()),
    ] {
        let error = find(name).expect_err("it is not there");
        assert!(matches!(error, DriverError::NotFound { .. }));
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn what_cannot_be_executed_is_named() {
    let root = tempfile::tempdir().expect("there is room");
    let tool = root.path().join("tool");
    file(&tool, 0o644);
    let path = root.path().to_string_lossy();
    let message = format!("program {}: it is not an executable file", tool.display());
    for name in ["tool", &tool.to_string_lossy()] {
        let error = find_program(name, &path, Path::new("/")).expect_err("it cannot be executed");
        assert!(matches!(error, DriverError::Invalid { .. }));
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_directory_that_was_asked_for_has_to_be_one() {
    let root = tempfile::tempdir().expect("there is room");
    let field = "working_dir";
    let missing = root.path().join("missing");
    let error = prepare_directory(&Directory::Given {
        path: missing.clone(),
        field,
    })
    .expect_err("it is not there");
    let message = format!(
        "working_dir: {} does not exist on this machine",
        missing.display()
    );
    assert_eq!(error.to_string(), message);
    let tool = root.path().join("tool");
    file(&tool, 0o755);
    let error = prepare_directory(&Directory::Given {
        path: tool.clone(),
        field,
    })
    .expect_err("it is a file");
    assert_eq!(
        error.to_string(),
        format!("working_dir: {} is not a directory", tool.display())
    );
    prepare_directory(&Directory::Given {
        path: root.path().to_owned(),
        field,
    })
    .expect("it is one");
}

#[test]
fn a_private_directory_is_nobody_elses() {
    let root = tempfile::tempdir().expect("there is room");
    let path = root.path().join("mine");
    for _ in 0..2 {
        prepare_directory(&Directory::Private(path.clone())).expect("there is room");
    }
    let mode = fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}
