//! Which steps the worker runs itself, and which it leaves to the job.

use serde_json::json;

use super::*;

fn step(name: &str, inputs: Value) -> PullStep {
    Map::from_iter([(name.to_owned(), inputs)])
}

fn clone_of(repository: &str, branch: Option<&str>) -> GitClone {
    let (repository, branch) = (repository.to_owned(), branch.map(str::to_owned));
    GitClone {
        repository,
        branch,
        commit: None,
        name: None,
    }
}

#[test]
fn a_step_is_known_under_each_of_its_names() {
    for name in [
        "prefect.deployments.steps.git_clone",
        "prefect.deployments.steps.pull.git_clone",
        "prefect.deployments.steps.pull.agit_clone",
        "prefect.projects.steps.git_clone_project",
    ] {
        let parsed = parse(&step(
            name,
            json!({"repository": "/srv/code", "branch": null}),
        ));
        assert_eq!(
            parsed,
            Ok(Step::GitClone(clone_of("/srv/code", None))),
            "{name}"
        );
    }
}

#[test]
fn what_is_not_known_is_left_to_the_job_with_its_reason() {
    let git = "prefect.deployments.steps.git_clone";
    for (name, inputs, reason) in [
        (
            "mine.steps.git_clone",
            json!({}),
            "does not know the step mine.steps.git_clone",
        ),
        (
            git,
            json!({"repository": "https://x/y"}),
            "does not clone over https yet",
        ),
        (
            git,
            json!({"repository": "git@x:y.git"}),
            "does not clone over ssh yet",
        ),
        (
            git,
            json!({"repository": "/x", "include_submodules": true}),
            "'include_submodules'",
        ),
        (
            git,
            json!({"repository": "{{ prefect.variables.x }}"}),
            "placeholder",
        ),
        (git, json!({}), "'repository' of git_clone is missing"),
    ] {
        let error = parse(&step(name, inputs))
            .expect_err("left to the job")
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_clone_goes_into_a_directory_named_like_the_reference_does() {
    for (repository, branch, name) in [
        ("https://h/r.git", None, "r"),
        ("https://h/r/", None, "r"),
        ("/srv/r", Some("feat/x"), "r-feat-x"),
        ("git@host:repo.git", None, "repo"),
        ("/", None, "repository"),
        ("..", None, "repository"),
    ] {
        assert_eq!(clone_of(repository, branch).directory_name(), name);
    }
}

#[test]
fn a_name_cannot_lead_out_of_the_workspace() {
    let mut clone = clone_of("/srv/r", None);
    clone.name = Some("../../etc".to_owned());
    assert_eq!(clone.directory_name(), "..-..-etc");
}

#[test]
fn an_address_is_shown_without_user_and_password() {
    for (address, shown) in [
        ("http://me:token@host:1/a@b.git", "http://host:1/a@b.git"),
        ("http://token@host", "http://host"),
        ("http://me:p@ss@host/a", "http://host/a"),
        ("file:///srv/me@home/a", "file:///srv/me@home/a"),
        ("/srv/me@home/a", "/srv/me@home/a"),
    ] {
        let clone = GitClone {
            repository: address.to_owned(),
            branch: None,
            commit: None,
            name: None,
        };
        assert_eq!(clone.shown(), shown);
    }
}
