use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{BaseJobTemplate, Filled, JobConfiguration, Lookups, TemplateError, apply_values};
use crate::python;

/// What `BaseJobConfiguration.resolve_for_flow_run` of Prefect 3.8.8 made of each case, the same under six hash seeds.
const REFERENCE: &str = include_str!("reference.json");

#[derive(Deserialize)]
struct Case {
    what: String,
    template: Value,
    #[serde(default)]
    deployment: Map<String, Value>,
    #[serde(default)]
    flow_run: Map<String, Value>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// By `slug/name`.
    #[serde(default)]
    blocks: BTreeMap<String, Map<String, Value>>,
    #[serde(default)]
    block_documents: BTreeMap<String, Map<String, Value>>,
    #[serde(default)]
    variables: BTreeMap<String, Value>,
    #[serde(default)]
    flow: Value,
    #[serde(default)]
    flow_run_json: Value,
    result: Expected,
}

#[derive(Deserialize)]
struct Expected {
    /// Nothing: the reference raised.
    configuration: Option<Value>,
    /// Nothing: the reference's typed model refused it.
    typed: Option<Typed>,
}

#[derive(Deserialize)]
struct Typed {
    command: Option<String>,
    env: BTreeMap<String, Option<String>>,
    labels: BTreeMap<String, String>,
    name: Value,
}

impl Case {
    fn look_up(&self, filled: &Filled, lookups: &mut Lookups) {
        let references = filled.references();
        for (slug, name) in references.blocks {
            let data = self.blocks.get(&format!("{slug}/{name}")).cloned();
            lookups.blocks.insert((slug, name), data);
        }
        for id in references.block_documents {
            let data = self.block_documents.get(&id).cloned();
            lookups.block_documents.insert(id, data);
        }
        for name in references.variables {
            let value = self.variables.get(&name).cloned();
            lookups.variables.insert(name, value);
        }
    }

    fn resolve(&self) -> Result<JobConfiguration, TemplateError> {
        let template = BaseJobTemplate::parse(&self.template)?;
        let environment = |name: &str| self.environment.get(name).cloned();
        let filled = template.fill(&self.deployment, &self.flow_run, &environment)?;
        let mut lookups = Lookups::default();
        self.look_up(&filled, &mut lookups);
        let filled = filled.with_blocks(&lookups)?;
        self.look_up(&filled, &mut lookups);
        filled.complete(&lookups)
    }

    fn check(&self) {
        let what = &self.what;
        let Some(expected) = &self.result.configuration else {
            let error = self.resolve().expect_err(what);
            assert!(!matches!(error, TemplateError::NotLookedUp(_)), "{what}");
            return;
        };
        let configuration = self.resolve().expect(what);
        // Written out, so that the order of keys counts and 1 is not 1.0.
        assert_eq!(
            Value::Object(configuration.clone().into_map()).to_string(),
            expected.to_string(),
            "{what}"
        );
        self.check_typed(&configuration);
    }

    fn check_typed(&self, configuration: &JobConfiguration) {
        let what = &self.what;
        let environment = |name: &str| self.environment.get(name).cloned();
        let name = configuration.name(&self.flow, &self.flow_run_json, &environment);
        let typed = (
            configuration.command(),
            configuration.env(),
            configuration.labels(),
            name,
        );
        match (&self.result.typed, typed) {
            (Some(expected), (Ok(command), Ok(env), Ok(labels), Ok(name))) => {
                assert_eq!(command, expected.command, "{what}");
                assert_eq!(env, expected.env, "{what}");
                assert_eq!(labels, expected.labels, "{what}");
                let expected = Some(&expected.name).filter(|name| !name.is_null());
                assert_eq!(name, expected.map(python::str), "{what}");
            }
            (None, typed) => assert!(
                typed.0.is_err() || typed.1.is_err() || typed.2.is_err() || typed.3.is_err(),
                "{what}: {typed:?}"
            ),
            (Some(_), typed) => panic!("{what}: {typed:?}"),
        }
    }
}

fn nothing(_: &str) -> Option<String> {
    None
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other} is not an object"),
    }
}

fn template(configuration: Value, properties: Value) -> BaseJobTemplate {
    let variables = Value::from_iter([("properties", properties)]);
    let sections = [
        ("job_configuration", configuration),
        ("variables", variables),
    ];
    let template = Value::from_iter(sections);
    BaseJobTemplate::parse(&template).expect("a sound template")
}

#[test]
fn every_case_resolves_as_the_reference_resolves_it() {
    let cases: Vec<Case> = serde_json::from_str(REFERENCE).expect("a table of cases");
    assert!(cases.len() > 100);
    for case in cases {
        case.check();
    }
}

#[test]
fn a_template_that_nobody_filled_in_is_empty() {
    for empty in [json!({}), json!(null)] {
        assert_eq!(BaseJobTemplate::parse(&empty), Err(TemplateError::Empty));
    }
}

#[test]
fn a_missing_section_is_named() {
    let error = BaseJobTemplate::parse(&json!({"variables": {}})).expect_err("incomplete");
    insta::assert_snapshot!(error, @"the base job template has no 'job_configuration'; it must have both 'job_configuration' and 'variables'");
    let error = BaseJobTemplate::parse(&json!({"job_configuration": {}})).expect_err("incomplete");
    assert_eq!(error, TemplateError::MissingSection("variables"));
}

#[test]
fn a_section_that_is_no_object_is_named() {
    for (template, field) in [
        (json!([]), "base job template"),
        (
            json!({"job_configuration": [], "variables": {}}),
            "job_configuration",
        ),
        (
            json!({"job_configuration": {}, "variables": 1}),
            "variables",
        ),
        (
            json!({"job_configuration": {}, "variables": {"properties": []}}),
            "variables.properties",
        ),
    ] {
        let error = BaseJobTemplate::parse(&template).expect_err("not an object");
        assert_eq!(error.to_string(), format!("{field}: must be an object"));
    }
}

#[test]
fn placeholders_nobody_declares_are_found() {
    let template = template(
        json!({
            "command": "{{ comand }}",
            "image": "{{ image.name }}:{{ tag }}",
            "again": ["{{ comand }}", {"{{ key }}": 1}],
            "name": "{{ ctx.flow.name }}",
            "others": "{{ $HOME }}{{ prefect.variables.v }}{{ prefect.blocks.a.b }}",
        }),
        json!({"command": {}, "image": {}}),
    );
    assert_eq!(
        template.unknown_placeholders(),
        ["comand", "tag", "ctx.flow.name"]
    );
}

#[test]
fn job_variables_no_template_mentions_are_readable() {
    let template = template(json!({}), json!({"exit_state": {"default": "crashed"}}));
    let variables = template
        .merged_variables(
            &object(json!({"plain_command": true})),
            &object(json!({"exit_state": "failed", "a.b": 1})),
        )
        .expect("nothing to object to");
    assert_eq!(
        Value::Object(variables),
        json!({"exit_state": "failed", "a": {"b": 1}, "plain_command": true})
    );
}

#[test]
fn references_are_named_once_in_the_order_they_are_met() {
    let template = template(
        json!({
            "a": "{{ prefect.blocks.secret.one.path }}-{{ prefect.blocks.secret.one }}-{{ prefect.variables.v }}",
            "b": [{"$ref": {"block_document_id": "id-1"}}, "{{ prefect.variables.v }}"],
            "c": "{{ x }}",
            "d": "{{ prefect.blocks.incomplete }}",
        }),
        json!({}),
    );
    let values = object(json!({"x": "{{ prefect.blocks.secret.two }}"}));
    let filled = template
        .fill(&values, &Map::new(), &nothing)
        .expect("sound");
    let references = filled.references();
    assert!(!references.is_empty());
    assert_eq!(
        references.blocks,
        [
            ("secret".into(), "one".into()),
            ("secret".into(), "two".into())
        ]
    );
    assert_eq!(references.block_documents, ["id-1"]);
    assert_eq!(references.variables, ["v"]);
}

#[test]
fn what_was_not_looked_up_is_not_taken_for_missing() {
    for (text, named) in [
        (
            "{{ prefect.blocks.secret.tok }}",
            "block 'tok' of type 'secret'",
        ),
        ("x{{ prefect.variables.v }}", "variable 'v'"),
    ] {
        let template = template(json!({"a": text}), json!({}));
        let filled = template
            .fill(&Map::new(), &Map::new(), &nothing)
            .expect("sound");
        assert_eq!(
            filled.complete(&Lookups::default()),
            Err(TemplateError::NotLookedUp(named.to_owned()))
        );
    }
}

#[test]
fn a_dotted_key_cannot_exhaust_the_stack() {
    let template = template(json!({"a": "{{ a }}"}), json!({}));
    let values = object(json!({"a.".repeat(100_000): 1}));
    let error = template
        .fill(&Map::new(), &values, &nothing)
        .expect_err("too deep");
    assert_eq!(
        error.to_string(),
        "job variables: a dotted key has more than 64 parts"
    );
}

#[test]
fn environment_placeholders_can_be_switched_off() {
    let template = template(json!({"a": "x{{ $HOME }}"}), json!({}));
    let filled = template
        .fill(&Map::new(), &Map::new(), &nothing)
        .expect("sound");
    let configuration = filled.complete(&Lookups::default()).expect("nothing open");
    assert_eq!(configuration.get("a"), Some(&json!("x")));
}

#[test]
fn printing_shows_no_values() {
    let template = template(json!({"env": {"TOKEN": "{{ t }}"}}), json!({}));
    let filled = template
        .fill(&object(json!({"t": "s3cr3t"})), &Map::new(), &nothing)
        .expect("sound");
    let lookups = Lookups {
        blocks: BTreeMap::from([(
            ("secret".into(), "tok".into()),
            Some(object(json!({"value": "s3cr3t"}))),
        )]),
        ..Lookups::default()
    };
    let configuration = filled.complete(&lookups).expect("nothing open");
    let printed = format!("{filled:?} {lookups:?} {configuration:?}");
    assert!(!printed.contains("s3cr3t"), "{printed}");
    assert!(printed.contains("env"), "{printed}");
}

/// Texts that are likely to be, or nearly be, placeholders.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{{ ".to_owned()),
        Just(" }}".to_owned()),
        Just("{{ a }}".to_owned()),
        Just("{{ b.c[0] }}".to_owned()),
        Just("{{ $HOME }}".to_owned()),
        Just("{{ prefect.blocks.secret.tok.x }}".to_owned()),
        Just("{{ prefect.variables.v }}".to_owned()),
        "[ab.\\[\\]0-9$é²-]{0,6}",
        ".{0,3}",
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

fn any_json(text: impl Strategy<Value = String> + Clone + 'static) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        let key = prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("env".to_owned()),
            Just("$ref".to_owned()),
            Just("block_document_id".to_owned()),
            text.clone(),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_object(
    text: impl Strategy<Value = String> + Clone + 'static,
) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec(("[ab.]{1,3}|env|\\PC{0,4}", any_json(text)), 0..4)
        .prop_map(|fields| fields.into_iter().collect())
}

/// Texts without braces cannot have placeholders.
fn plain_text() -> impl Strategy<Value = String> + Clone {
    "[^{}]{0,8}"
}

proptest! {
    #[test]
    fn no_input_makes_it_panic(
        whole in any_json(text().boxed()),
        configuration in any_object(text().boxed()),
        properties in any_object(text().boxed()),
        deployment in any_object(text().boxed()),
        flow_run in any_object(text().boxed()),
    ) {
        let _parsed = BaseJobTemplate::parse(&whole);
        let template = template(Value::Object(configuration), Value::Object(properties));
        let _unknown = template.unknown_placeholders();
        if let Ok(filled) = template.fill(&deployment, &flow_run, &nothing) {
            let mut lookups = Lookups::default();
            let references = filled.references();
            for block in references.blocks {
                lookups.blocks.insert(block, Some(object(json!({"value": {"x": "{{ prefect.variables.v }}"}}))));
            }
            for id in references.block_documents {
                lookups.block_documents.insert(id, None);
            }
            for name in references.variables.into_iter().chain(["v".to_owned()]) {
                lookups.variables.insert(name, Some(json!([1.5, "{{ a }}"])));
            }
            if let Ok(configuration) = filled.complete(&lookups) {
                let _command = configuration.command();
                let _env = configuration.env();
                let _labels = configuration.labels();
                let _name = configuration.name(&json!({}), &json!(null), &nothing);
            }
        }
    }

    #[test]
    fn no_placeholder_of_a_set_name_is_left(
        configuration in any_json(text().boxed()),
        a in "[x-z]{1,4}",
        b in "[x-z]{1,4}",
    ) {
        let values = object(json!({"a": a, "b": {"c": [b]}}));
        let filled = apply_values(&configuration, &values, &nothing).unwrap_or_default();
        super::placeholder::visit(&filled, &mut |left| {
            assert!(!["a", "b.c[0]"].contains(&left.name), "{left:?} in {filled}");
        });
    }

    #[test]
    fn plain_json_stays_as_it_is(
        configuration in any_object(plain_text().boxed()),
    ) {
        let template = template(Value::Object(configuration.clone()), json!({}));
        let filled = template.fill(&Map::new(), &Map::new(), &nothing).expect("nothing to merge");
        prop_assert_eq!(filled.configuration, Value::Object(configuration));
    }
}

#[test]
fn a_name_that_no_variable_can_have_is_named_without_its_value() {
    for name in ["", "A=B", "A\0"] {
        let mut fields = Map::new();
        fields.insert("env".to_owned(), json!({ name: "secret" }));
        let error = JobConfiguration::from(fields).env().expect_err(name);
        let said = error.to_string();
        assert!(said.starts_with(&format!("env.{name}: ")), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}
