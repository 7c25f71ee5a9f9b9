pub(super) mod api;

use std::collections::BTreeSet;

use super::default_template;

#[test]
fn the_template_asks_for_no_variable_that_it_does_not_have() {
    let template = default_template();
    let text = template["job_configuration"].to_string();
    let asked: BTreeSet<&str> = text
        .split("{{ ")
        .skip(1)
        .filter_map(|rest| rest.split(" }}").next())
        .collect();
    let variables = template["variables"]["properties"].as_object();
    let variables: BTreeSet<&str> = variables
        .expect("it has variables")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(asked, variables);
}
