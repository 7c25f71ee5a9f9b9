use super::Profile;

const CONFIG: &str = "
# a comment
[default]
region = eu-west-1
s3 =
    addressing_style = path
[profile role]
role_arn = arn:aws:iam::1:role/r
source_profile=default
external_id = x
[profile person]
sso_session = work
sso_account_id = 1
[sso-session work]
sso_start_url = https://work
sso_region = us-west-2
";

const CREDENTIALS: &str = "
[default]
aws_access_key_id = id
aws_secret_access_key = a=b:c
";

#[test]
fn both_files_make_one_profile() {
    let found = Profile::parse("default", CONFIG, CREDENTIALS);
    assert_eq!(found.find("region").as_deref(), Some("eu-west-1"));
    assert_eq!(found.find("addressing_style"), None);
    assert_eq!(found.keys().expect("a key").secret.expose(), "a=b:c");
    let role = Profile::parse("role", CONFIG, CREDENTIALS);
    assert_eq!(role.find("source_profile").as_deref(), Some("default"));
    assert_eq!(role.role("arn".to_owned()).parameters[0].0, "ExternalId");
    let person = Profile::parse("person", CONFIG, CREDENTIALS);
    assert_eq!(
        person.find("sso_start_url").as_deref(),
        Some("https://work")
    );
    assert!(
        Profile::parse("nobody", CONFIG, CREDENTIALS)
            .settings
            .is_empty()
    );
}
