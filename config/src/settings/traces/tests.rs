use super::*;
use crate::settings::{Settings, load};

fn settings(variables: &[(&str, &str)]) -> Settings {
    let environment = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let sources = Sources {
        environment: environment.collect(),
        directory: "/nowhere".into(),
        ..Sources::default()
    };
    load(&sources).expect("sound settings")
}

fn endpoint(variables: &[(&str, &str)]) -> Option<String> {
    settings(variables).traces.endpoint.map(String::from)
}

#[test]
fn traces_are_off_until_somebody_says_where_to() {
    assert_eq!(endpoint(&[]), None);
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
    assert_eq!(
        endpoint(&[base]).as_deref(),
        Some("http://c:4318/v1/traces")
    );
    let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/in");
    assert_eq!(endpoint(&[base, own]).as_deref(), Some("http://t/in"));
    let ours = ("WORKER_TRACES_ENDPOINT", "http://w/v1/traces");
    assert_eq!(
        endpoint(&[base, ours]).as_deref(),
        Some("http://w/v1/traces")
    );
    assert_eq!(
        endpoint(&[("OTEL_TRACES_EXPORTER", "otlp")]).as_deref(),
        Some("http://localhost:4318/v1/traces")
    );
    for off in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ] {
        assert_eq!(endpoint(&[base, off]), None, "{off:?}");
    }
}

#[test]
fn a_protocol_that_is_not_spoken_is_told() {
    let settings = settings(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ]);
    assert_eq!(settings.traces.endpoint, None);
    assert!(
        settings.notices[0].contains("not by grpc"),
        "{:?}",
        settings.notices
    );
}

#[test]
fn headers_service_and_share_are_what_the_standard_says() {
    let traces = settings(&[
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Basic%20abc, x=1",
        ),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=flows,deployment.environment=prod",
        ),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
    ])
    .traces;
    assert_eq!(traces.headers["authorization"].expose(), "Basic abc");
    assert_eq!(traces.headers["x"].expose(), "1");
    assert_eq!(traces.service, "flows");
    assert_eq!(traces.attributes["deployment.environment"], "prod");
    assert!((traces.share - 0.25).abs() < f64::EPSILON && traces.follows_parent);
    assert_eq!(traces.timeout, Duration::from_millis(2500));
}
