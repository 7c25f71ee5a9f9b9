use serde_json::json;

use super::{BlockDocument, Variable};

#[test]
fn printing_a_block_or_a_variable_tells_no_value() {
    let block: BlockDocument = serde_json::from_value(json!({
        "id": "2b1e0d7c-9c59-4f5e-8d0c-0d6f0c1f7a11", "name": "named", "data": { "token": "canary" },
    }))
    .expect("it is one");
    let variable = Variable {
        name: "named".to_owned(),
        value: json!({ "token": "canary" }),
    };
    for printed in [format!("{block:?}"), format!("{variable:?}")] {
        assert!(
            printed.contains("named") && !printed.contains("canary"),
            "{printed}"
        );
    }
}
