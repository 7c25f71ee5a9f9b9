//! Where traces go: what the variables of OpenTelemetry say, as its specification of 2024 has them, and a key of ours for the endpoint alone.

use std::{collections::BTreeMap, time::Duration};

use url::Url;

use super::{Sources, TracesSettings, read, read::Reader};
use crate::Secret;

/// Where collectors listen.
const LOCAL: &str = "http://localhost:4318";

/// The path of a collector that takes traces.
const PATH: &str = "/v1/traces";

const SERVICE: &str = "prefect-worker";

/// Reads what is set.
pub(super) fn traces(reader: &mut Reader<'_>, sources: &Sources) -> TracesSettings {
    let ours = reader.find("traces.endpoint", read::url).flatten();
    let endpoint = ours.or_else(|| standard_endpoint(reader, sources));
    let attributes = pairs(sources.variable("OTEL_RESOURCE_ATTRIBUTES"));
    let mut attributes: BTreeMap<String, String> = attributes.collect();
    let service = sources.variable("OTEL_SERVICE_NAME").map(str::to_owned);
    let service = service.or_else(|| attributes.remove("service.name"));
    attributes.remove("service.name");
    let of_all = pairs(sources.variable("OTEL_EXPORTER_OTLP_HEADERS"));
    let of_traces = pairs(sources.variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS"));
    let headers = of_all.chain(of_traces);
    TracesSettings {
        endpoint,
        headers: headers
            .map(|(name, value)| (name, Secret::new(value)))
            .collect(),
        timeout: signal(sources, "TIMEOUT")
            .and_then(|text| text.trim().parse().ok())
            .map_or(Duration::from_secs(10), Duration::from_millis),
        service: service.unwrap_or_else(|| SERVICE.to_owned()),
        attributes,
        share: share(sources),
        follows_parent: sources
            .variable("OTEL_TRACES_SAMPLER")
            .is_none_or(|name| name.starts_with("parentbased_")),
    }
}

/// The endpoint that the standard variables name. None: traces are off.
fn standard_endpoint(reader: &mut Reader<'_>, sources: &Sources) -> Option<Url> {
    let disabled = sources.variable("OTEL_SDK_DISABLED");
    let exporter = sources.variable("OTEL_TRACES_EXPORTER").map(str::trim);
    if disabled.is_some_and(|text| text.eq_ignore_ascii_case("true"))
        || exporter.is_some_and(|name| name != "otlp")
    {
        return None;
    }
    let own = sources.variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    let base = sources.variable("OTEL_EXPORTER_OTLP_ENDPOINT");
    let base = base.or(exporter.map(|_| LOCAL));
    let text = own
        .map(str::to_owned)
        .or_else(|| Some(format!("{}{PATH}", base?.trim_end_matches('/'))))?;
    let protocol = signal(sources, "PROTOCOL").unwrap_or("http/protobuf");
    if protocol != "http/protobuf" {
        reader.remark(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL: this worker sends traces by http/protobuf and not by {protocol}, so it sends none"
        ));
        return None;
    }
    let url = Url::parse(text.trim()).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if url.is_none() {
        reader.remark(
            "OTEL_EXPORTER_OTLP_ENDPOINT: is no URL of HTTP, so no traces are sent".to_owned(),
        );
    }
    url
}

/// A variable that may be said of traces alone.
fn signal<'a>(sources: &'a Sources, name: &str) -> Option<&'a str> {
    let own = sources.variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"));
    own.or_else(|| sources.variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
}

/// Which share of traces without a parent is recorded.
fn share(sources: &Sources) -> f64 {
    let name = sources.variable("OTEL_TRACES_SAMPLER").unwrap_or_default();
    match name.trim_start_matches("parentbased_") {
        "always_off" => 0.0,
        "traceidratio" => sources
            .variable("OTEL_TRACES_SAMPLER_ARG")
            .and_then(|text| text.trim().parse().ok())
            .filter(|share| (0.0..=1.0).contains(share))
            .unwrap_or(1.0),
        _ => 1.0,
    }
}

/// `key=value,key=value`, percent-encoded.
fn pairs(text: Option<&str>) -> impl Iterator<Item = (String, String)> + '_ {
    let parts = text.unwrap_or_default().split(',');
    parts.filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), decoded(value.trim())))
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
