use bollard::models::{CreateImageInfo, ProgressDetail};

use super::{Failure, Layers};
use crate::driver::DriverError;

#[test]
fn what_engines_say_of_registries_is_told_apart() {
    let of = |message: &str| Failure::of(message).into_error("reg:5000/a:1");
    for denied in [
        "Get \"http://reg:5000/v2/a/manifests/1\": no basic auth credentials",
        "unauthorized: authentication required",
        "pull access denied for a, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
    ] {
        assert!(matches!(of(denied), DriverError::Denied { .. }), "{denied}");
    }
    let missing = of("manifest for reg:5000/a:1 not found: manifest unknown: manifest unknown");
    assert!(matches!(&missing, DriverError::NotFound { what } if what.contains("'reg:5000/a:1'")));
    for transient in [
        "Get \"http://reg:5000/v2/\": dial tcp 127.0.0.1:5000: connect: connection refused",
        "unexpected EOF",
        "write /x: no space left on device",
    ] {
        assert!(of(transient).is_transient(), "{transient}");
    }
}

#[test]
fn progress_is_the_sum_of_the_layers() {
    let step = |id: &str, status: &str, current: i64| CreateImageInfo {
        id: Some(id.to_owned()),
        status: Some(status.to_owned()),
        progress_detail: Some(ProgressDetail {
            current: Some(current << 20),
            total: Some(10 << 20),
        }),
        error_detail: None,
    };
    let mut layers = Layers::default();
    layers.take(step("a", "Already exists", 0));
    layers.take(step("b", "Downloading", 1));
    layers.take(step("b", "Downloading", 4));
    layers.take(step("c", "Downloading", 2));
    layers.take(step("c", "Download complete", 0));
    assert_eq!(layers.to_string(), "14 of 20 MiB, layers complete: 1");
}
