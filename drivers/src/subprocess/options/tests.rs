use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::Options;

fn read(configuration: &Value) -> Result<Options, String> {
    let configuration: Map<_, _> = configuration.as_object().expect("an object").clone();
    Options::read(&configuration).map_err(|error| error.to_string())
}

#[test]
fn what_is_not_said_has_the_defaults_of_the_reference() {
    let defaults = Options {
        stream_output: true,
        working_dir: None,
    };
    assert_eq!(read(&json!({})), Ok(defaults.clone()));
    let nulls = json!({"command": null, "name": null, "working_dir": null, "unknown": [1]});
    assert_eq!(read(&nulls), Ok(defaults));
}

#[test]
fn every_field_is_read() {
    let configuration = json!({
        "command": "true", "env": {"A": null, "B": 1}, "labels": {"a": "b"}, "name": "n",
        "stream_output": "No", "working_dir": "/srv/flows",
    });
    let options = Options {
        stream_output: false,
        working_dir: Some(PathBuf::from("/srv/flows")),
    };
    assert_eq!(read(&configuration), Ok(options));
}

#[test]
fn a_wrong_type_names_its_field_and_not_its_value() {
    for (configuration, message) in [
        (
            json!({"command": ["a"]}),
            "command: must be a text or null, and is a list",
        ),
        (
            json!({"name": 3}),
            "name: must be a text or null, and is a number",
        ),
        (
            json!({"env": null}),
            "env: must be an object of values, and is null",
        ),
        (
            json!({"labels": {"a": 1}}),
            "labels.a: must be a text, and is a number",
        ),
        (
            json!({"stream_output": null}),
            "stream_output: must be true or false, and is null",
        ),
        (
            json!({"stream_output": "hunter2"}),
            "stream_output: must be true or false, and is another text",
        ),
        (
            json!({"working_dir": {}}),
            "working_dir: must be a text or null, and is an object",
        ),
    ] {
        assert_eq!(read(&configuration), Err(message.to_owned()));
    }
}
