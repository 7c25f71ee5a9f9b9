use serde_json::json;

use super::*;

fn parse(name: &str, inputs: Value) -> Result<Step, Unsupported> {
    Step::parse(&Map::from_iter([(name.to_owned(), inputs)]), true)
}

#[test]
fn a_step_is_known_under_each_of_its_names() {
    for (name, known) in [
        ("prefect.deployments.steps.git_clone", "git_clone"),
        ("prefect.deployments.steps.pull.agit_clone", "git_clone"),
        ("prefect.projects.steps.git_clone_project", "git_clone"),
        (
            "prefect.projects.steps.set_working_directory",
            "set_working_directory",
        ),
        (
            "prefect.deployments.steps.utility.run_shell_script",
            "run_shell_script",
        ),
        (
            "prefect.deployments.steps.pip_install_requirements",
            "pip_install_requirements",
        ),
        (
            "prefect.deployments.steps.pull_from_remote_storage",
            "pull_from_remote_storage",
        ),
        (
            "prefect.deployments.steps.pull.pull_with_block",
            "pull_with_block",
        ),
        ("prefect_aws.deployments.steps.pull_from_s3", "pull_from_s3"),
        (
            "prefect_aws.projects.steps.pull_project_from_s3",
            "pull_from_s3",
        ),
        (
            "prefect_gcp.deployments.steps.pull_from_gcs",
            "pull_from_gcs",
        ),
        (
            "prefect_azure.deployments.steps.pull_from_azure_blob_storage",
            "pull_from_azure_blob_storage",
        ),
    ] {
        let inputs = match known {
            "pull_with_block" => {
                json!({"block_type_slug": "s3-bucket", "block_document_name": "b"})
            }
            _ => Value::Null,
        };
        assert_eq!(parse(name, inputs).expect(name).name(), known);
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
        ("git_clone", json!({}), "does not know the step git_clone"),
        (
            git,
            json!({"repository": "/x", "depth": 1}),
            "the input 'depth' of git_clone",
        ),
        (
            "prefect.deployments.steps.pull_with_block",
            json!({"block_type_slug": "smb", "block_document_name": "b"}),
            "a block of type smb",
        ),
        (
            "prefect.deployments.steps.pull_with_block",
            json!({"block_type_slug": "s3-bucket", "block_document_name": "{{ a.b }}"}),
            "a placeholder in its name",
        ),
    ] {
        let error = parse(name, inputs)
            .expect_err("left to the job")
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
    let two = json!({git: {}, "prefect.deployments.steps.run_shell_script": {}});
    let Value::Object(two) = two else {
        unreachable!()
    };
    assert!(matches!(Step::parse(&two, true), Err(Unsupported::Step(_))));
    let script = Map::from_iter([(
        "prefect.deployments.steps.run_shell_script".to_owned(),
        json!({"script": "true"}),
    )]);
    let error = Step::parse(&script, false).expect_err("no interpreter here");
    assert_eq!(error, Unsupported::Interpreter("run_shell_script"));
}

#[test]
fn what_a_step_refers_to_is_known_before_it_runs() {
    let step = parse(
        "prefect.deployments.steps.git_clone",
        json!({
            "id": "c",
            "requires": "prefect-github",
            "repository": "{{ prefect.variables.url }}",
            "credentials": "{{ prefect.blocks.github-credentials.me }}",
            "branch": "{{ $BRANCH }}",
        }),
    );
    let step = step.expect("known");
    let references = step.references();
    assert_eq!(
        references.blocks,
        [("github-credentials".to_owned(), "me".to_owned())]
    );
    assert_eq!(references.variables, ["url"]);
    assert_eq!(step.environment_names(), ["BRANCH"]);
    let block = json!({"block_type_slug": "s3-bucket", "block_document_name": "b"});
    let step = parse("prefect.deployments.steps.pull_with_block", block).expect("known");
    assert_eq!(
        step.references().blocks,
        [("s3-bucket".to_owned(), "b".to_owned())]
    );
}

#[test]
fn inputs_do_not_print() {
    let inputs = json!({"repository": "https://canary@h/r", "access_token": "canary"});
    let step = parse("prefect.deployments.steps.git_clone", inputs).expect("known");
    assert!(!format!("{step:?}").contains("canary"), "{step:?}");
}
