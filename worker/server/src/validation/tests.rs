//! Schemas, with the answers of 3.8.8.

use super::*;

fn schema() -> Value {
    json!({ "type": "object", "required": ["image"], "properties": {
        "image": { "type": "string" },
        "env": { "type": "object", "default": {}, "additionalProperties": { "type": "string" } },
        "limit": { "type": "integer", "minimum": 1 },
        "pair": { "type": "array", "items": [{ "type": "integer" }, { "type": "string" }] },
    } })
}

fn says(values: &Value, required: Required, null_with_default: bool) -> String {
    check(values, &schema(), required, null_with_default)
        .map_or_else(|mismatch| mismatch.to_string(), |()| "fits".to_owned())
}

#[test]
fn values_fit_or_the_place_is_named() {
    let cases = [
        (json!({ "image": "i" }), "fits"),
        (json!({ "image": "i", "unknown": 1 }), "fits"),
        (json!({ "image": "i", "limit": null }), "fits"),
        (json!({ "image": "i", "pair": [1, "a"] }), "fits"),
        (
            json!({ "image": "i", "limit": 0 }),
            "Validation failed for field 'limit'. Failure reason: 0 is less than the minimum of 1",
        ),
        (
            json!({ "image": null }),
            "Validation failed for field 'image'. Failure reason: null is not of type \"string\"",
        ),
        (
            json!({ "image": "i", "env": { "A": 1 } }),
            "Validation failed for field 'env.A'. Failure reason: 1 is not of type \"string\"",
        ),
        (
            json!({}),
            "Validation failed. Failure reason: \"image\" is a required property",
        ),
    ];
    for (values, expected) in cases {
        assert_eq!(
            says(&values, Required::Checked, false),
            expected,
            "{values}"
        );
    }
    assert_eq!(says(&json!({}), Required::Ignored, false), "fits");
}

#[test]
fn null_is_allowed_for_what_has_a_default_only_where_it_is_asked_for() {
    let values = json!({ "image": "i", "env": null });
    assert_eq!(says(&values, Required::Checked, true), "fits");
    assert_ne!(says(&values, Required::Checked, false), "fits");
}

#[test]
fn defaults_stand_in_for_what_is_required() {
    let template = |default: Value| {
        json!({ "job_configuration": {}, "variables": { "type": "object", "required": ["image"],
            "properties": { "image": { "type": "string", "default": default } } } })
    };
    let none = Map::new();
    let fits =
        |default| check_job_variables(&template(default), &[&none], Required::Checked).is_ok();
    assert!(fits(json!("i")));
    // A default that does not fit is left out, and then nothing can be said about what is required (3.8.8).
    assert!(fits(json!(1)));
    // What a block holds is known to the worker only.
    assert!(fits(json!({ "$ref": { "block_document_id": "x" } })));
    assert!(check_job_variables(&json!({}), &[&none], Required::Checked).is_ok());
}

#[test]
fn later_layers_of_job_variables_win() {
    let template = json!({ "variables": schema() });
    let (good, bad) = (json!({ "image": "i" }), json!({ "image": 1 }));
    let layers = |first: &Value, second: &Value| {
        let layers = [first, second].map(|layer| layer.as_object().cloned().unwrap_or_default());
        check_job_variables(&template, &[&layers[0], &layers[1]], Required::Checked).is_ok()
    };
    assert!(layers(&bad, &good));
    assert!(!layers(&good, &bad));
}

#[test]
fn a_template_names_only_variables_it_has() {
    let template = |text: &str| json!({ "job_configuration": { "a": [text] }, "variables": { "properties": { "x": {} } } });
    for text in [
        "{{ x }}",
        "{{x}}-{{ x }}",
        "{{ prefect.blocks.secret.a }}",
        "{{ $HOME }}",
        "{{ a b }}",
        "{{ open",
    ] {
        assert!(check_template(&template(text)).is_ok(), "{text}");
    }
    assert!(check_template(&template("{{ y }}")).is_err());
    assert!(
        check_template(&json!({})).is_ok(),
        "a template may come later"
    );
}
