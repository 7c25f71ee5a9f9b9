use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Deployment, Flow, FlowRun, Inputs, Named, Resolution, Worker, iso, resolve};
use crate::{
    DriverKind,
    template::{Lookups, TemplateError},
};

/// A named thing whose id does not matter.
fn named(name: &str) -> Named<'_> {
    Named { id: "id", name }
}

fn resolve_with(
    kind: DriverKind,
    template: &Value,
    job_variables: &Map<String, Value>,
    lookups: &Lookups,
) -> Result<Resolution, TemplateError> {
    let none = Map::new();
    let settings = BTreeMap::new();
    let inputs = Inputs {
        kind,
        template,
        flow_run: FlowRun {
            named: named("run"),
            job_variables,
            json: &Value::Null,
        },
        flow: Flow {
            named: named("flow"),
            json: &Value::Null,
        },
        deployment: Some(Deployment {
            named: named("deployment"),
            updated: None,
            job_variables: &none,
        }),
        pool: named("pool"),
        worker: Worker {
            id: None,
            name: "worker",
        },
        settings: &settings,
        version: "3.8.8",
        environment: &|_| None,
    };
    resolve(&inputs, lookups)
}

#[test]
fn what_a_block_brought_along_is_asked_for_once_the_block_is_there() {
    let template = json!({
        "job_configuration": {"env": {"A": "{{ prefect.blocks.secret.token }}"}},
        "variables": {}
    });
    let none = Map::new();
    let mut lookups = Lookups::default();
    let first = resolve_with(DriverKind::Process, &template, &none, &lookups);
    let Ok(Resolution::Needs(needs)) = first else {
        panic!("{first:?}")
    };
    let block = ("secret".to_owned(), "token".to_owned());
    assert_eq!(needs.blocks.first(), Some(&block));

    let data = json!({"value": "{{ prefect.variables.v }}"});
    lookups.blocks.insert(block, data.as_object().cloned());
    let second = resolve_with(DriverKind::Process, &template, &none, &lookups);
    let Ok(Resolution::Needs(needs)) = second else {
        panic!("{second:?}")
    };
    assert!(needs.blocks.is_empty(), "a block is put in once");
    assert_eq!(needs.variables, ["v"]);

    lookups.variables.insert("v".to_owned(), Some(json!(5)));
    let third = resolve_with(DriverKind::Process, &template, &none, &lookups);
    let Ok(Resolution::Done(resolved)) = third else {
        panic!("{third:?}")
    };
    assert_eq!(resolved.environment["A"], "5");
}

#[test]
fn printing_a_resolved_job_shows_no_values() {
    let template = json!({"job_configuration": {"env": {"A": "s3cret"}}, "variables": {}});
    let resolved = resolve_with(
        DriverKind::Docker,
        &template,
        &Map::new(),
        &Lookups::default(),
    );
    let printed = format!("{resolved:?}");
    assert!(
        printed.contains("\"A\"") && !printed.contains("s3cret"),
        "{printed}"
    );
}

#[test]
fn a_time_has_six_digits_of_a_second_or_none() {
    for (given, expected) in [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05.500000+00:00"),
        (
            "2026-01-02T03:04:05.123456+02:00",
            "2026-01-02T01:04:05.123456+00:00",
        ),
    ] {
        assert_eq!(iso(given.parse().expect("a time")), expected);
    }
}

/// Texts with and without what looks like a placeholder.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "\\{\\{ ?[a-z$.\\[\\]0-9-]{0,12} ?\\}\\}x?",
        Just("{{ prefect.blocks.secret.token }}".to_owned()),
        Just("{{ prefect.variables.v }}".to_owned()),
        "(env|labels|name|a|a\\.b|\\$ref|default)",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((text(), value()), 0..5).prop_map(|fields| fields.into_iter().collect())
}

proptest! {
    #[test]
    fn resolution_of_anything_ends_without_a_panic(
        configuration in value(), schema in object(), given in object(), found in value(),
        kind in prop_oneof![Just(DriverKind::Process), Just(DriverKind::Docker), Just(DriverKind::Kubernetes)],
    ) {
        let template = json!({"job_configuration": configuration, "variables": {"properties": schema}});
        let mut lookups = Lookups::default();
        // Blocks first, then the variables that those name.
        for _ in 0..3 {
            let Ok(Resolution::Needs(needs)) = resolve_with(kind, &template, &given, &lookups) else {
                return Ok(());
            };
            let data = found.as_object().cloned();
            lookups.blocks.extend(needs.blocks.into_iter().map(|block| (block, data.clone())));
            lookups.block_documents.extend(needs.block_documents.into_iter().map(|id| (id, data.clone())));
            lookups.variables.extend(needs.variables.into_iter().map(|name| (name, Some(found.clone()))));
        }
        let last = resolve_with(kind, &template, &given, &lookups);
        prop_assert!(!matches!(last, Ok(Resolution::Needs(_))), "{last:?}");
    }
}
