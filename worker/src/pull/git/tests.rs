//! Cloning real repositories from a path.

use std::fs;

use super::*;

fn request(repository: &Path, branch: Option<&str>, commit: Option<&str>) -> GitClone {
    GitClone {
        repository: repository.to_string_lossy().into_owned(),
        branch: branch.map(str::to_owned),
        commit: commit.map(str::to_owned),
        name: None,
    }
}

/// A repository with two commits on `main`, the first of them tagged `v1`, and gives the first's id.
fn repository(at: &Path) -> String {
    let mut options = git2::RepositoryInitOptions::new();
    let repository = Repository::init_opts(at, options.initial_head("main")).expect("a repository");
    let first = commit(&repository, "one");
    let object = repository.find_object(first, None).expect("the commit");
    repository
        .tag_lightweight("v1", &object, false)
        .expect("a tag");
    commit(&repository, "two");
    first.to_string()
}

fn commit(repository: &Repository, content: &str) -> git2::Oid {
    let root = repository.workdir().expect("a work tree");
    fs::write(root.join("file"), content).expect("written");
    let mut index = repository.index().expect("an index");
    index.add_path(Path::new("file")).expect("added");
    let tree = repository
        .find_tree(index.write_tree().expect("a tree"))
        .expect("the tree");
    let author = git2::Signature::now("Test", "test@localhost").expect("an author");
    let parent = repository
        .head()
        .ok()
        .and_then(|head| head.peel_to_commit().ok());
    let parents: Vec<_> = parent.iter().collect();
    repository
        .commit(Some("HEAD"), &author, &author, content, &tree, &parents)
        .expect("a commit")
}

fn cloned(request: &GitClone) -> Result<String, GitError> {
    let into = tempfile::tempdir().expect("a temporary directory");
    let path = into.path().join("code");
    clone_now(request, &path, &Arc::default())?;
    Ok(fs::read_to_string(path.join("file")).expect("the file"))
}

#[test]
fn branch_tag_commit_and_nothing_at_all_give_the_right_file() {
    let source = tempfile::tempdir().expect("a temporary directory");
    let first = repository(source.path());
    assert_eq!(
        cloned(&request(source.path(), None, None)).expect("cloned"),
        "two"
    );
    assert_eq!(
        cloned(&request(source.path(), Some("main"), None)).expect("cloned"),
        "two"
    );
    assert_eq!(
        cloned(&request(source.path(), Some("v1"), None)).expect("cloned"),
        "one"
    );
    assert_eq!(
        cloned(&request(source.path(), None, Some(&first))).expect("cloned"),
        "one"
    );
    assert_eq!(
        cloned(&request(source.path(), None, Some(&first[..8]))).expect("cloned"),
        "one"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let source = tempfile::tempdir().expect("a temporary directory");
    repository(source.path());
    let error = cloned(&request(source.path(), Some("nope"), None)).expect_err("no such branch");
    assert!(
        error
            .to_string()
            .ends_with("has no branch, tag or commit 'nope'"),
        "{error}"
    );
    let error =
        cloned(&request(Path::new("/no/such/place"), None, None)).expect_err("no repository");
    assert!(error.to_string().contains("/no/such/place"), "{error}");
}
