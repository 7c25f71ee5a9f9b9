use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Prepared, prepare};
use crate::{
    Environment, Job, Owner, Program,
    docker::{DockerSettings, PullPolicy},
};

fn job(configuration: Value) -> Job {
    let Value::Object(configuration) = configuration else {
        panic!("a configuration is an object")
    };
    Job {
        key: "11111111-1111-4111-8111-111111111111.1"
            .parse()
            .expect("a key"),
        owner: Owner("owner".to_owned()),
        name: "My Flow!".to_owned(),
        program: Program::Execute,
        environment: Environment(
            [(
                "PREFECT_API_URL".to_owned(),
                "http://localhost:4200/api".to_owned(),
            )]
            .into(),
        ),
        labels: [("prefect.io/flow-name".to_owned(), "My Flow!".to_owned())].into(),
        configuration,
        workspace: None,
    }
}

fn settings() -> DockerSettings {
    DockerSettings {
        version: "3.8.8".to_owned(),
        default_image: "default:1".to_owned(),
        api_url: Some("http://localhost:4200/api".to_owned()),
        current_dir: "/srv/worker".into(),
        bind_workspace: false,
    }
}

fn prepared(configuration: Value) -> Prepared {
    prepare(&job(configuration), &settings()).expect("it can be prepared")
}

#[test]
fn a_job_that_says_nothing_gets_the_default_image_and_reaches_an_api_on_this_host() {
    let prepared = prepared(json!({}));
    assert_eq!(prepared.image, "default:1");
    assert_eq!(prepared.pull_policy, PullPolicy::IfNotPresent);
    assert_eq!(prepared.network_mode.as_deref(), Some("host"));
    assert_eq!(
        prepared.environment.0["PREFECT_API_URL"],
        "http://localhost:4200/api"
    );
    assert_eq!(prepared.name.as_deref(), Some("My-Flow"));
    assert_eq!(prepared.labels["io.prefect.flow-name"], "My Flow!");
}

#[test]
fn on_a_network_of_its_own_it_is_told_the_name_of_its_host() {
    let prepared = prepared(json!({"networks": ["jobs"]}));
    assert_eq!(prepared.network_mode, None);
    assert_eq!(
        prepared.environment.0["PREFECT_API_URL"],
        "http://host.docker.internal:4200/api"
    );
    assert_eq!(prepared.extra_hosts["host.docker.internal"], "host-gateway");
}

#[test]
fn prefects_engine_is_started_as_the_caller_sees_fit() {
    let engine = Job {
        program: Program::Engine {
            entrypoint: "flows.py:hello".to_owned(),
        },
        ..job(json!({}))
    };
    let prepared = prepare(&engine, &settings()).expect("it can be prepared");
    assert_eq!(prepared.arguments, None);
}

#[test]
fn printing_shows_no_credentials() {
    let printed = format!(
        "{:?}",
        prepared(json!({
            "registry_credentials": {"username": "u", "password": "s3cret", "registry_url": "r"},
            "container_create_kwargs": {"healthcheck": "s3cret"},
        }))
    );
    assert!(
        printed.contains("healthcheck") && !printed.contains("s3cret"),
        "{printed}"
    );
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    scalar.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_configuration_makes_it_panic(
        fields in prop::collection::vec((prop::sample::select(super::OWN_FIELDS.to_vec()), value()), 0..4),
        hosts in value(), url in any::<String>(),
    ) {
        let mut configuration: serde_json::Map<_, _> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        configuration.entry("container_create_kwargs").or_insert(json!({"extra_hosts": hosts}));
        configuration.entry("env").or_insert(json!({"PREFECT_API_URL": url}));
        // Whether it can be prepared or not: it ends.
        drop(prepare(&job(Value::Object(configuration)), &settings()));
    }
}
