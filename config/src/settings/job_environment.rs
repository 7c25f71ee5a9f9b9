//! The Prefect settings that a job's environment starts from.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    ApiSettings, ConfigError, Notes, Settings, Sources, build,
    keys::Key,
    layers::Layers,
    prefect::{PrefectSettings, SETTINGS, Setting},
};
use crate::{Secret, python};

/// Every setting that somebody set, under its canonical name and as `to_environment_variables(exclude_unset=True)` spells
/// it (3.8.8). How to reach the API comes from this worker's own settings, wherever they are written.
pub(super) fn collect(
    sources: &Sources,
    prefect: &PrefectSettings,
    layers: &Layers,
    settings: &Settings,
    notes: &mut Notes,
) -> BTreeMap<String, Secret> {
    let mut environment = spelled(sources, prefect, notes);
    for (id, value) in api(&settings.api) {
        let setting = SETTINGS
            .iter()
            .find(|setting| Some(setting.path) == Key::of(id).prefect);
        let Some(setting) = setting.filter(|_| layers.is_ours(id)) else {
            continue;
        };
        environment.remove(&setting.variable());
        environment.extend(value.map(|value| (setting.variable(), Secret::new(value))));
    }
    // Both set the levels and forget that anybody else did.
    let on = |name: &str| {
        environment
            .get(name)
            .is_some_and(|value| value.expose() == "True")
    };
    if on("PREFECT_DEBUG_MODE") || on("PREFECT_TESTING_TEST_MODE") {
        environment.remove("PREFECT_LOGGING_LEVEL");
        environment.remove("PREFECT_INTERNAL_LOGGING_LEVEL");
    }
    if build::is_cloud(&settings.api) {
        let size = settings.logging.max_log_size.to_string();
        environment.insert(
            "PREFECT_LOGGING_TO_API_MAX_LOG_SIZE".to_owned(),
            Secret::new(size),
        );
    }
    environment
}

fn spelled(
    sources: &Sources,
    prefect: &PrefectSettings,
    notes: &mut Notes,
) -> BTreeMap<String, Secret> {
    let mut environment = BTreeMap::new();
    for setting in SETTINGS.iter() {
        let Some(written) = prefect.find(setting.path) else {
            continue;
        };
        match setting.spell(&written.value, sources) {
            Ok(value) => {
                environment.insert(setting.variable(), Secret::new(value));
            }
            Err(expected) => complain(setting, &written.place, &written.value, expected, notes),
        }
    }
    environment
}

/// Prefect would refuse such a value in every job. What the worker uses itself is complained of already.
fn complain(setting: &Setting, place: &str, value: &Value, expected: &str, notes: &mut Notes) {
    if notes.errors.iter().any(|error| error.place == place) {
        return;
    }
    let problem = if setting.is_secret() {
        expected.to_owned()
    } else {
        let is = python::str(value);
        format!("{expected}, is '{is}'")
    };
    notes.errors.push(ConfigError::new(place, problem));
}

/// How to reach the API, by key and in the reference's spelling. None: not at all.
fn api(api: &ApiSettings) -> Vec<(&'static str, Option<String>)> {
    let ApiSettings {
        url,
        key,
        auth_string,
        custom_headers,
        cloud_url,
        tls_insecure_skip_verify,
        ssl_cert_file,
        enable_http2,
        request_timeout,
        max_retries,
        retry_jitter_factor,
        retry_extra_codes,
        csrf_support,
        websockets: _, // The reference has no such setting.
    } = api;
    let secret = |secret: &Option<Secret>| secret.as_ref().map(|text| text.expose().to_owned());
    let flag = |flag: bool| Some(python::str(&Value::Bool(flag)));
    let real = |number: f64| Some(python::str_of_float(number));
    let headers = custom_headers
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.expose())));
    let headers = python::json(&headers.collect());
    let codes: Vec<_> = retry_extra_codes.iter().map(u16::to_string).collect();
    let cert_file = ssl_cert_file
        .as_ref()
        .map(|path| path.to_string_lossy().into_owned());
    vec![
        ("api.url", url.as_ref().map(ToString::to_string)),
        ("api.key", secret(key)),
        ("api.auth_string", secret(auth_string)),
        ("api.custom_headers", Some(headers)),
        ("api.cloud_url", Some(cloud_url.to_string())),
        (
            "api.tls_insecure_skip_verify",
            flag(*tls_insecure_skip_verify),
        ),
        ("api.ssl_cert_file", cert_file),
        ("api.enable_http2", flag(*enable_http2)),
        ("api.request_timeout", real(request_timeout.as_secs_f64())),
        ("api.max_retries", Some(max_retries.to_string())),
        ("api.retry_jitter_factor", real(*retry_jitter_factor)),
        ("api.retry_extra_codes", Some(codes.join(","))),
        ("api.csrf_support", flag(*csrf_support)),
    ]
}
