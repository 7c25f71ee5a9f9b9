use std::{fs, path::Path};

use git2::{IndexEntry, IndexTime, Signature};

use super::*;

const COMMIT: &str = "0123456789012345678901234567890123456789";

/// A repository whose commit has links at these paths, with this text beside it.
fn repository(root: &Path, links: &[&str], modules: &str) -> Repository {
    let repository = Repository::init(root).expect("a repository");
    fs::write(root.join(".gitmodules"), modules).expect("a file");
    let mut index = repository.index().expect("an index");
    for path in links {
        let entry = IndexEntry {
            ctime: IndexTime::new(0, 0),
            mtime: IndexTime::new(0, 0),
            dev: 0,
            ino: 0,
            mode: 0o160_000,
            uid: 0,
            gid: 0,
            file_size: 0,
            id: Oid::from_str(COMMIT).expect("an id"),
            flags: 0,
            flags_extended: 0,
            path: path.as_bytes().to_vec(),
        };
        index.add(&entry).expect("a link");
    }
    let tree = index.write_tree().expect("a tree");
    let author = Signature::now("Test", "test@localhost").expect("an author");
    let tree = repository.find_tree(tree).expect("it was written");
    repository
        .commit(Some("HEAD"), &author, &author, "first", &tree, &[])
        .expect("a commit");
    drop(tree);
    repository
}

/// Paths and addresses of what is found, or the error.
fn found(links: &[&str], modules: &str, directories: &[&str]) -> Result<Vec<String>, GitError> {
    let root = tempfile::tempdir().expect("a directory");
    let repository = repository(root.path(), links, modules);
    let (address, _) = Address::parse("https://host/group/code.git", Path::new("/")).expect("one");
    let directories: Vec<String> = directories.iter().map(|one| (*one).to_owned()).collect();
    let mut found: Vec<String> = of(&repository, &address, &directories)?
        .into_iter()
        .map(|one| {
            assert_eq!(one.commit.to_string(), COMMIT);
            format!("{} {}", one.path, one.address)
        })
        .collect();
    found.sort();
    Ok(found)
}

#[test]
fn addresses_are_absolute_or_relative_to_the_repository() {
    let modules = "[submodule \"a\"]\n\tpath = libs/a\n\turl = ../a.git\n\
        [submodule \"some name\"]\n\tpath = b/\n\turl = https://other/b.git\n\
        [submodule \"c\"]\n\tpath = c\n\turl = ../../else/c\n";
    assert_eq!(
        found(&["libs/a", "b", "c"], modules, &[]).expect("all can be read"),
        [
            "b https://other/b.git",
            "c https://host/else/c",
            "libs/a https://host/group/a.git",
        ]
    );
}

#[test]
fn what_the_commit_does_not_link_and_what_has_no_address_is_left() {
    let modules = "[submodule \"gone\"]\n\tpath = gone\n\turl = ../gone.git\n\
        [submodule \"bare\"]\n\tpath = bare\n\
        [submodule \"out\"]\n\tpath = ../../out\n\turl = ../out.git\n\
        [other]\n\tpath = other\n\turl = ../other.git\n";
    let none: [&str; 0] = [];
    assert_eq!(
        found(&["bare", "unknown", "other"], modules, &[]).expect("read"),
        none
    );
}

#[test]
fn a_sparse_clone_has_the_submodules_of_its_directories() {
    let modules = "[submodule \"a\"]\n\tpath = libs/a\n\turl = ../a.git\n\
        [submodule \"b\"]\n\tpath = other/b\n\turl = ../b.git\n";
    assert_eq!(
        found(&["libs/a", "other/b"], modules, &["libs"]).expect("all can be read"),
        ["libs/a https://host/group/a.git"]
    );
}

#[test]
fn an_address_that_is_none_is_told_with_its_path_and_not_itself() {
    let modules = "[submodule \"a\"]\n\tpath = libs/a\n\turl = ftp://user:secret-word@host/a\n";
    let error = found(&["libs/a"], modules, &[]).expect_err("nobody fetches over that");
    assert!(matches!(error, GitError::Submodule { .. }), "{error}");
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("libs/a") && !text.contains("secret-word"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_no_configuration_is_an_error_and_a_link_is_not_followed() {
    assert!(found(&["a"], "[submodule \"a\n", &[]).is_err());
    let root = tempfile::tempdir().expect("a directory");
    let outside = root.path().join("outside");
    fs::write(
        &outside,
        "[submodule \"a\"]\n\tpath = a\n\turl = ../a.git\n",
    )
    .expect("a file");
    let inside = root.path().join("inside");
    let repository = repository(&inside, &["a"], "");
    fs::remove_file(inside.join(".gitmodules")).expect("it is there");
    std::os::unix::fs::symlink(&outside, inside.join(".gitmodules")).expect("a link");
    let (address, _) = Address::parse("https://host/code.git", Path::new("/")).expect("one");
    assert_eq!(of(&repository, &address, &[]).expect("it is read"), []);
}
