use serde_json::json;

use super::Policy;

#[test]
fn what_is_not_said_is_as_the_reference_does_it() {
    let policy: Policy = serde_json::from_value(json!({})).expect("nothing is needed");
    assert_eq!(policy, Policy::default());
    assert!(policy.allow_command);
    assert!(policy.allow_environment_placeholders);
    assert!(policy.inherit_environment);
}

#[test]
fn a_limit_that_does_not_exist_is_refused() {
    let error = serde_json::from_value::<Policy>(json!({"allow_comand": false}));
    assert!(
        error
            .expect_err("a spelling mistake")
            .to_string()
            .contains("allow_comand")
    );
}
