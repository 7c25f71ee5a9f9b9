use serde_json::json;

use super::*;
use worker_config::Secret;

fn action(name: &str, inputs: Value, lookups: &Lookups) -> Result<Action, InputError> {
    let name = format!("prefect.deployments.steps.{name}");
    let step = Step::parse(&Map::from_iter([(name, inputs)]), true).expect("a known step");
    of(&step, &Map::new(), lookups, &|_| None, Path::new("/base"))
}

fn clone(inputs: Value) -> Result<(git::Request, String), InputError> {
    match action("git_clone", inputs, &Lookups::default())? {
        Action::Clone(request, name) => Ok((request, name)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clone_goes_into_a_directory_named_like_the_reference_does() {
    for (repository, branch, name) in [
        ("https://h/r.git", None, "r"),
        ("https://h/r/", None, "r"),
        ("https://h/org.github.io.git", None, "org.github.io"),
        ("/srv/r", Some("feat/x"), "r-feat-x"),
        ("git@host:repo.git", None, "repo"),
        ("/", None, "repository"),
        ("..", None, "repository"),
    ] {
        assert_eq!(directory_name(repository, branch), name, "{repository}");
    }
    let named = json!({"repository": "/srv/r", "branch": "b", "clone_directory_name": "mine"});
    assert_eq!(clone(named).expect("fine").1, "mine");
}

#[test]
fn inputs_that_contradict_or_lead_outside_are_refused() {
    for (inputs, error) in [
        (
            json!({"repository": "/r", "branch": "a", "commit_sha": "abcd"}),
            InputError::BranchAndCommit,
        ),
        (
            json!({"repository": "/r", "branch": "--upload-pack=x"}),
            InputError::Branch,
        ),
        (
            json!({"repository": "/r", "commit_sha": "main"}),
            InputError::Commit,
        ),
        (
            json!({"repository": "/r", "commit_sha": "abc"}),
            InputError::Commit,
        ),
        (json!({"branch": "main"}), InputError::Missing("repository")),
        (
            json!({"repository": "{{ gone }}"}),
            InputError::Missing("repository"),
        ),
        (
            json!({"repository": "/r", "clone_directory_name": "../x"}),
            InputError::DirectoryName("clone_directory_name"),
        ),
        (
            json!({"repository": "/r", "clone_directory_name": "/x"}),
            InputError::DirectoryName("clone_directory_name"),
        ),
        (
            json!({"repository": "/r", "directories": "src"}),
            InputError::Type {
                input: "directories",
                wanted: "a list of texts",
            },
        ),
        (
            json!({"repository": "https://h/r", "access_token": "t", "credentials": {"token": "t"}}),
            CredentialsError::Twice.into(),
        ),
    ] {
        assert_eq!(
            clone(inputs.clone()).expect_err("refused"),
            error,
            "{inputs}"
        );
    }
}

#[test]
fn the_type_of_a_block_decides_what_the_server_is_shown() {
    let mut lookups = Lookups::default();
    let Value::Object(data) = json!({"token": "tok", "url": null}) else {
        unreachable!()
    };
    let key = ("gitlab-credentials".to_owned(), "me".to_owned());
    lookups.blocks.insert(key, Some(data));
    let inputs = json!({
        "repository": "https://org@git.corp/r.git",
        "credentials": "{{ prefect.blocks.gitlab-credentials.me }}",
    });
    let Ok(Action::Clone(request, _)) = action("git_clone", inputs, &lookups) else {
        panic!("a clone")
    };
    assert_eq!(request.repository.to_string(), "https://git.corp/r.git");
    assert_eq!(
        request.credentials,
        Some(Credentials::new("oauth2", Secret::new("tok")))
    );
}

#[test]
fn a_repository_block_is_cloned_with_its_own_credentials() {
    let mut lookups = Lookups::default();
    let Value::Object(data) = json!({
        "repository": "https://bitbucket.org/o/r.git",
        "reference": "dev",
        "bitbucket_credentials": {"token": "tok"},
    }) else {
        unreachable!()
    };
    let key = ("bitbucket-repository".to_owned(), "mine".to_owned());
    lookups.blocks.insert(key, Some(data));
    let inputs = json!({"block_type_slug": "bitbucket-repository", "block_document_name": "mine"});
    let Ok(Action::Clone(request, name)) = action("pull_with_block", inputs, &lookups) else {
        panic!("a clone")
    };
    assert_eq!(name, "bitbucket-repository-mine");
    assert_eq!(request.reference, Reference::Named("dev".to_owned()));
    assert_eq!(
        request.credentials,
        Some(Credentials::new("x-token-auth", Secret::new("tok")))
    );
}
