use serde_json::{Value, json};

use super::{CONTAINER, Extras, Form, HOST, read};
use crate::driver::DriverError;

fn extras(kwargs: &Value) -> Result<Extras, DriverError> {
    read(kwargs.as_object().expect("an object"))
}

/// Something of each form that any field of it takes.
fn sample(python: &str, form: Form) -> Value {
    match (python, form) {
        ("cgroupns", _) => json!("host"),
        ("isolation", _) => json!("default"),
        (
            "tty" | "stdin_open" | "network_disabled" | "init" | "oom_kill_disable"
            | "publish_all_ports" | "read_only",
            _,
        ) => json!(true),
        (name, Form::Same)
            if [
                "working_dir",
                "hostname",
                "domainname",
                "cgroup_parent",
                "runtime",
            ]
            .contains(&name)
                || name.ends_with("_mode")
                || name.starts_with("cpuset")
                || name == "volume_driver" =>
        {
            json!("text")
        }
        (
            "cap_add"
            | "cap_drop"
            | "device_cgroup_rules"
            | "dns"
            | "dns_opt"
            | "dns_search"
            | "security_opt"
            | "volumes_from",
            _,
        ) => json!(["one"]),
        ("healthcheck", _) => json!({"test": ["CMD", "true"], "interval": 1_000_000}),
        ("log_config", _) => json!({"type": "json-file", "config": {"max-size": "1m"}}),
        ("mounts", _) => {
            json!([{"target": "/t", "source": "/s", "type": "bind", "read_only": true}])
        }
        ("ulimits", _) => json!([{"name": "nofile", "soft": 1, "hard": 2}]),
        ("device_requests", _) => {
            json!([{"driver": "nvidia", "count": -1, "device_ids": null, "capabilities": [["gpu"]]}])
        }
        (name, Form::Capitalised) if name.starts_with("device_") => {
            json!([{"Path": "/dev/sda", "Rate": 1}])
        }
        ("blkio_weight_device", _) => json!([{"Path": "/dev/sda", "Weight": 1}]),
        (_, Form::Capitalised | Form::Same) => json!(1),
        (_, Form::Bytes) => json!("64m"),
        (_, Form::Text) => json!(1000),
        (_, Form::Texts) => json!([1, "two"]),
        (_, Form::TextByName) => json!({"net.core.somaxconn": 1}),
        (_, Form::Command) => json!("tini -- 'a b'"),
        (_, Form::Devices) => json!(["/dev/null:/dev/x:r"]),
        (_, Form::Pairs) => json!({"db": "database"}),
    }
}

#[test]
fn every_argument_reaches_the_engines_model() {
    for (python, engine, form) in CONTAINER {
        let extras = extras(&json!({ (python): sample(python, form) }));
        let extras = extras.unwrap_or_else(|error| panic!("{python}: {error}"));
        assert!(extras.container.contains_key(engine), "{python}");
    }
    for (python, engine, form) in HOST {
        let extras = extras(&json!({ (python): sample(python, form) }));
        let extras = extras.unwrap_or_else(|error| panic!("{python}: {error}"));
        assert!(extras.host.contains_key(engine), "{python}");
    }
}

#[test]
fn graphics_cards_are_asked_for_in_either_spelling() {
    let expected = json!([{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]);
    for request in [
        json!([{"driver": "nvidia", "count": -1, "capabilities": [["gpu"]]}]),
        expected.clone(),
    ] {
        let extras = extras(&json!({ "device_requests": request })).unwrap();
        assert_eq!(extras.host["DeviceRequests"], expected);
    }
}

#[test]
fn ports_are_exposed_and_bound() {
    let extras = extras(&json!({"ports": {
        "80": 8080,
        "53/udp": ["127.0.0.1", 5353],
        "90/tcp": [1, 2],
        "99/tcp": null,
    }}))
    .unwrap();
    assert_eq!(
        extras.container["ExposedPorts"],
        json!({"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "99/tcp": {}})
    );
    assert_eq!(
        extras.host["PortBindings"],
        json!({
            "80/tcp": [{"HostPort": "8080"}],
            "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}],
            "90/tcp": [{"HostPort": "1"}, {"HostPort": "2"}],
            "99/tcp": [{"HostPort": ""}],
        })
    );
}

#[test]
fn an_entrypoint_may_be_a_line_and_a_platform_is_set_apart() {
    let extras =
        extras(&json!({"entrypoint": "tini -- 'a b'", "platform": "linux/arm64", "detach": true}))
            .unwrap();
    assert_eq!(extras.container["Entrypoint"], json!(["tini", "--", "a b"]));
    assert_eq!(extras.platform.as_deref(), Some("linux/arm64"));
}

#[test]
fn what_cannot_be_passed_on_is_refused_by_name_and_without_its_value() {
    for kwargs in [
        json!({"nonsense": "canary"}),
        json!({"shm_size": ["canary"]}),
        json!({"init": "canary"}),
        json!({"ulimits": [{"name": ["canary"]}]}),
        json!({"restart_policy": {"Name": "always", "canary": 1}}),
        json!({"ports": "canary"}),
    ] {
        let error = extras(&kwargs).unwrap_err();
        let name = kwargs.as_object().unwrap().keys().next().unwrap();
        let text = format!("{error} {error:?}");
        assert!(
            text.contains(&format!("container_create_kwargs.{name}")),
            "{text}"
        );
        assert!(!text.contains("canary"), "{text}");
    }
    for policy in [json!({"Name": "no"}), json!({"Name": ""}), json!(null)] {
        extras(&json!({ "restart_policy": policy })).unwrap();
    }
}
