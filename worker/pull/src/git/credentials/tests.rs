//! Which user and password come of which block.
#![expect(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "what is compared reads best as it is written"
)]

use serde_json::json;

use super::*;

fn of(
    host: &str,
    block: Value,
    slug: Option<&str>,
) -> Result<Option<Credentials>, CredentialsError> {
    Credentials::from_inputs(host, None, Some(&block), slug)
}

fn pair(user: &str, password: &str) -> Result<Option<Credentials>, CredentialsError> {
    Ok(Some(Credentials::new(user, Secret::new(password))))
}

#[test]
fn the_host_says_whose_rules_apply_where_no_block_does() {
    for (host, user) in [
        ("github.com", "x-access-token"),
        ("gitlab.example", "oauth2"),
        ("bitbucket.org", "x-token-auth"),
        ("dev.azure.com", ""),
        ("gitea.example", "x-access-token"),
    ] {
        let made = Credentials::from_inputs(host, Some("tok"), None, None);
        assert_eq!(made, pair(user, "tok"), "{host}");
    }
}

#[test]
fn a_block_says_it_for_hosts_that_nobody_knows() {
    let token = || json!({"token": "tok"});
    assert_eq!(
        of("git.corp", token(), Some("gitlab-credentials")),
        pair("oauth2", "tok")
    );
    assert_eq!(
        of("gitlab.corp", token(), Some("github-credentials")),
        pair("x-access-token", "tok")
    );
    assert_eq!(
        of("git.corp", token(), Some("azuredevops-credentials")),
        pair("", "tok")
    );
}

#[test]
fn users_that_come_with_the_token_or_beside_it_are_used() {
    assert_eq!(
        of("gitlab.com", json!({"token": "deployer:tok"}), None),
        pair("deployer", "tok")
    );
    assert_eq!(
        of("github.com", json!({"token": "x-access-token:tok"}), None),
        pair("x-access-token", "tok")
    );
    let both = json!({"username": "me", "token": "tok"});
    assert_eq!(
        of("bitbucket.org", both, Some("bitbucket-credentials")),
        pair("me", "tok")
    );
    let password = json!({"username": "me", "password": "pw", "token": null});
    assert_eq!(of("h", password, None), pair("me", "pw"));
}

#[test]
fn what_cannot_be_used_is_said() {
    let twice = Credentials::from_inputs("h", Some("t"), Some(&json!({"token": "t"})), None);
    assert_eq!(twice, Err(CredentialsError::Twice));
    assert_eq!(
        of("h", json!({"username": "me"}), None),
        Err(CredentialsError::NoPassword)
    );
    assert_eq!(
        of("bitbucketserver.corp", json!({"token": "t"}), None),
        Err(CredentialsError::NoUser)
    );
    assert_eq!(
        of("h", json!("text"), None),
        Err(CredentialsError::NotAMapping)
    );
    assert_eq!(of("h", json!({"token": null}), None), Ok(None));
    assert_eq!(of("h", Value::Null, None), Ok(None));
}

#[test]
fn they_do_not_print() {
    let made = Credentials::new("canary-user", Secret::new("canary"));
    assert_eq!(format!("{made:?}"), "***");
}
