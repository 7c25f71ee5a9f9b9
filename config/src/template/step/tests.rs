use serde_json::json;

use super::*;

fn expand(value: &Value) -> Option<Value> {
    let Value::Object(outputs) = json!({
        "clone": {"directory": "repo", "depth": 1},
        "sly": "{{ prefect.blocks.secret.token }} {{ $HOME }} {{ clone.directory }}",
    }) else {
        unreachable!()
    };
    let mut lookups = Lookups::default();
    let Value::Object(secret) = json!({"value": "tok {{ $HOME }}"}) else {
        unreachable!()
    };
    let key = ("secret".to_owned(), "token".to_owned());
    lookups.blocks.insert(key, Some(secret));
    let branch = Some(json!("{{ clone.directory }}"));
    lookups.variables.insert("branch".to_owned(), branch);
    lookups.variables.insert("none".to_owned(), None);
    let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
    expand_once(value, &outputs, &lookups, &environment).expect("everything is looked up")
}

#[test]
fn values_of_every_kind_are_put_in_and_not_searched_again() {
    assert_eq!(expand(&json!("{{ clone.depth }}")), Some(json!(1)));
    assert_eq!(
        expand(&json!("{{ prefect.blocks.secret.token }}")),
        Some(json!("tok {{ $HOME }}"))
    );
    assert_eq!(
        expand(&json!("{{ prefect.variables.branch }}")),
        Some(json!("{{ clone.directory }}"))
    );
    assert_eq!(expand(&json!("{{ $HOME }}/x")), Some(json!("/home/me/x")));
    assert_eq!(
        expand(&json!("a {{ sly }} {{ prefect.blocks.secret.token }} b")),
        Some(json!(
            "a {{ prefect.blocks.secret.token }} {{ $HOME }} {{ clone.directory }} tok {{ $HOME }} b"
        ))
    );
}

#[test]
fn what_nothing_answers_for_is_left_out() {
    let value = json!({"a": "{{ gone }}", "b": ["{{ gone }}", "x{{ gone }}y"], "c": "{{ prefect.variables.none }}"});
    assert_eq!(expand(&value), Some(json!({"b": ["xy"], "c": ""})));
    assert_eq!(expand(&json!("{{ gone }}")), None);
}

#[test]
fn a_whole_block_tells_its_type() {
    let whole = json!("{{ prefect.blocks.gitlab-credentials.mine }}");
    assert_eq!(block_type(&whole), Some("gitlab-credentials"));
    assert_eq!(
        block_type(&json!("x {{ prefect.blocks.secret.mine }}")),
        None
    );
    assert_eq!(
        environment_names(&json!({"a": ["{{ $A }} {{ b }}"]})),
        ["A"]
    );
}
