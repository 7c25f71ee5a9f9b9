//! `container_create_kwargs`: what people ask of the engine in the words of docker-py (7.2.0), in the engine's own.
//!
//! Each name is known here, with the place where the engine wants it. A name nobody knows is an error, as it is to docker-py: the engine would
//! pass over it, and a person would wonder for long.

use bollard::models::ContainerCreateBody;
use serde_json::{Map, Value, json};
use worker_config::python;

use super::size;
use crate::{
    command_line,
    driver::DriverError,
    fields::{invalid, refused},
};

/// What the keyword arguments add to a container.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// Fields of the container itself, in the engine's spelling.
    pub(super) container: Map<String, Value>,
    /// Fields of its `HostConfig`.
    pub(super) host: Map<String, Value>,
    /// The platform of its image, which is a part of the request's URL.
    pub(super) platform: Option<String>,
}

/// How a value gets into the engine's form.
#[derive(Clone, Copy)]
enum Form {
    /// It is the same.
    Same,
    /// A size.
    Bytes,
    /// A text, however it was written.
    Text,
    /// A list of texts, however they were written.
    Texts,
    /// An object with texts as values.
    TextByName,
    /// A command, as a list or as one line.
    Command,
    /// An object, or a list of objects, with names of its own in docker-py's spelling or the engine's.
    Capitalised,
    /// Devices as `host:container:permissions`.
    Devices,
    /// Links by name.
    Pairs,
}

/// Fields of the container.
const CONTAINER: [(&str, &str, Form); 10] = [
    ("entrypoint", "Entrypoint", Form::Command),
    ("user", "User", Form::Text),
    ("working_dir", "WorkingDir", Form::Same),
    ("hostname", "Hostname", Form::Same),
    ("domainname", "Domainname", Form::Same),
    ("tty", "Tty", Form::Same),
    ("stdin_open", "OpenStdin", Form::Same),
    ("healthcheck", "Healthcheck", Form::Capitalised),
    ("stop_signal", "StopSignal", Form::Text),
    ("network_disabled", "NetworkDisabled", Form::Same),
];

/// Fields of `HostConfig`.
const HOST: [(&str, &str, Form); 52] = [
    ("blkio_weight", "BlkioWeight", Form::Same),
    (
        "blkio_weight_device",
        "BlkioWeightDevice",
        Form::Capitalised,
    ),
    ("cap_add", "CapAdd", Form::Same),
    ("cap_drop", "CapDrop", Form::Same),
    ("cgroup_parent", "CgroupParent", Form::Same),
    ("cgroupns", "CgroupnsMode", Form::Same),
    ("cpu_count", "CpuCount", Form::Same),
    ("cpu_percent", "CpuPercent", Form::Same),
    ("cpu_period", "CpuPeriod", Form::Same),
    ("cpu_quota", "CpuQuota", Form::Same),
    ("cpu_shares", "CpuShares", Form::Same),
    ("cpuset_cpus", "CpusetCpus", Form::Same),
    ("cpuset_mems", "CpusetMems", Form::Same),
    ("cpu_rt_period", "CpuRealtimePeriod", Form::Same),
    ("cpu_rt_runtime", "CpuRealtimeRuntime", Form::Same),
    ("device_cgroup_rules", "DeviceCgroupRules", Form::Same),
    ("device_read_bps", "BlkioDeviceReadBps", Form::Capitalised),
    ("device_read_iops", "BlkioDeviceReadIOps", Form::Capitalised),
    ("device_write_bps", "BlkioDeviceWriteBps", Form::Capitalised),
    (
        "device_write_iops",
        "BlkioDeviceWriteIOps",
        Form::Capitalised,
    ),
    ("devices", "Devices", Form::Devices),
    ("device_requests", "DeviceRequests", Form::Capitalised),
    ("dns", "Dns", Form::Same),
    ("dns_opt", "DnsOptions", Form::Same),
    ("dns_search", "DnsSearch", Form::Same),
    ("group_add", "GroupAdd", Form::Texts),
    ("init", "Init", Form::Same),
    ("ipc_mode", "IpcMode", Form::Same),
    ("isolation", "Isolation", Form::Same),
    ("links", "Links", Form::Pairs),
    ("log_config", "LogConfig", Form::Capitalised),
    ("mem_reservation", "MemoryReservation", Form::Bytes),
    ("mem_swappiness", "MemorySwappiness", Form::Same),
    ("mounts", "Mounts", Form::Capitalised),
    ("nano_cpus", "NanoCpus", Form::Same),
    ("oom_kill_disable", "OomKillDisable", Form::Same),
    ("oom_score_adj", "OomScoreAdj", Form::Same),
    ("pid_mode", "PidMode", Form::Same),
    ("pids_limit", "PidsLimit", Form::Same),
    ("publish_all_ports", "PublishAllPorts", Form::Same),
    ("read_only", "ReadonlyRootfs", Form::Same),
    ("runtime", "Runtime", Form::Same),
    ("security_opt", "SecurityOpt", Form::Same),
    ("shm_size", "ShmSize", Form::Bytes),
    ("storage_opt", "StorageOpt", Form::TextByName),
    ("sysctls", "Sysctls", Form::TextByName),
    ("tmpfs", "Tmpfs", Form::TextByName),
    ("ulimits", "Ulimits", Form::Capitalised),
    ("userns_mode", "UsernsMode", Form::Same),
    ("uts_mode", "UTSMode", Form::Same),
    ("volume_driver", "VolumeDriver", Form::Same),
    ("volumes_from", "VolumesFrom", Form::Same),
];

/// What docker-py takes and nothing here comes of: how its own client behaves.
const WITHOUT_EFFECT: [&str; 2] = ["detach", "use_config_proxy"];

/// Reads keyword arguments.
///
/// # Errors
/// [`DriverError::Invalid`], which names the argument and never its value: it may be a credential.
pub(super) fn read(kwargs: &Map<String, Value>) -> Result<Extras, DriverError> {
    let mut extras = Extras::default();
    for (name, value) in kwargs {
        let field = format!("container_create_kwargs.{name}");
        if value.is_null() || WITHOUT_EFFECT.contains(&name.as_str()) {
            continue;
        }
        match name.as_str() {
            "platform" => {
                let platform = value
                    .as_str()
                    .ok_or_else(|| invalid(&field, "a text", value))?;
                extras.platform = Some(platform.to_owned());
            }
            "ports" => ports(&field, value, &mut extras)?,
            "networking_config" => {
                let endpoints = json!({ "EndpointsConfig": capitalised(value) });
                extras
                    .container
                    .insert("NetworkingConfig".to_owned(), endpoints);
            }
            "restart_policy" => refuse_restart(&field, value)?,
            other => {
                let known = |table: &'static [(&str, &str, Form)]| {
                    table.iter().find(|(python, _, _)| *python == other)
                };
                let (target, (_, engine, form)) = if let Some(entry) = known(&CONTAINER) {
                    (&mut extras.container, entry)
                } else if let Some(entry) = known(&HOST) {
                    (&mut extras.host, entry)
                } else {
                    return Err(refused(
                        &field,
                        "is not one of the arguments of docker-py's containers.create that a worker can pass on",
                    ));
                };
                let value = formed(&field, *form, value)?;
                target.insert((*engine).to_owned(), value);
            }
        }
    }
    check(&extras)?;
    Ok(extras)
}

fn formed(field: &str, form: Form, value: &Value) -> Result<Value, DriverError> {
    let text = |value: &Value| Value::String(python::str(value));
    let list = |expected: &str| match value {
        Value::Array(items) => Ok(items),
        other => Err(invalid(field, expected, other)),
    };
    let object = |expected: &str| match value {
        Value::Object(entries) => Ok(entries),
        other => Err(invalid(field, expected, other)),
    };
    Ok(match form {
        Form::Same => value.clone(),
        Form::Bytes => size::bytes(field, value)?.into(),
        Form::Text => text(value),
        Form::Texts => list("a list")?.iter().map(text).collect(),
        Form::TextByName => match value {
            // docker-py takes a list of paths where nothing is said about them.
            Value::Array(names) => names
                .iter()
                .filter_map(Value::as_str)
                .map(|name| match name.split_once(':') {
                    Some((name, options)) => (name.to_owned(), Value::from(options)),
                    None => (name.to_owned(), Value::from("")),
                })
                .collect::<Map<_, _>>()
                .into(),
            _ => object("an object")?
                .iter()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect::<Map<_, _>>()
                .into(),
        },
        Form::Command => match value {
            Value::String(line) => command_line::split(line)
                .map_err(|error| refused(field, error.to_string()))?
                .into(),
            _ => list("a text or a list of texts")?
                .iter()
                .map(text)
                .collect(),
        },
        Form::Capitalised => capitalised(value),
        Form::Devices => list("a list of devices")?
            .iter()
            .map(|device| device_of(field, device))
            .collect::<Result<_, _>>()?,
        Form::Pairs => object("an object of names")?
            .iter()
            .map(|(name, alias)| Value::from(format!("{name}:{}", python::str(alias))))
            .collect(),
    })
}

/// `host[:container[:permissions]]`, or an object in the engine's spelling.
fn device_of(field: &str, device: &Value) -> Result<Value, DriverError> {
    let Some(text) = device.as_str() else {
        return match device {
            Value::Object(_) => Ok(capitalised(device)),
            other => Err(invalid(field, "a list of devices", other)),
        };
    };
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or_default();
    Ok(json!({
        "PathOnHost": host,
        "PathInContainer": parts.next().unwrap_or(host),
        "CgroupPermissions": parts.next().unwrap_or("rwm"),
    }))
}

/// Names inside an object as the engine spells them: `device_ids` is `DeviceIDs`, `target` is `Target`. What is below options, labels and other
/// people's names is left as it is.
fn capitalised(value: &Value) -> Value {
    const OTHERS_NAMES: [&str; 4] = ["Config", "Options", "Labels", "DriverOpts"];
    match value {
        Value::Array(items) => items.iter().map(capitalised).collect(),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(name, value)| {
                let name = capital_name(name);
                let value = if OTHERS_NAMES.contains(&name.as_str()) {
                    value.clone()
                } else {
                    capitalised(value)
                };
                (name, value)
            });
            entries.collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

fn capital_name(name: &str) -> String {
    if name.contains('/') || name.starts_with(|c: char| !c.is_ascii_lowercase()) {
        return name.to_owned();
    }
    let words = name.split('_').map(|word| match word {
        "ids" => "IDs".to_owned(),
        "readonly" => "ReadOnly".to_owned(),
        word => {
            let (first, rest) = word.split_at(word.len().min(1));
            format!("{}{rest}", first.to_ascii_uppercase())
        }
    });
    words.collect()
}

/// `{"80/tcp": 8080}`: an own port, a list of them, `[address, port]`, or null for any.
fn ports(field: &str, value: &Value, extras: &mut Extras) -> Result<(), DriverError> {
    let Value::Object(ports) = value else {
        return Err(invalid(field, "an object of ports", value));
    };
    let (mut exposed, mut bound) = (Map::new(), Map::new());
    for (port, host) in ports {
        let port = if port.contains('/') {
            port.clone()
        } else {
            format!("{port}/tcp")
        };
        let binding = |host: &Value| match host {
            Value::Array(pair) if pair.len() == 2 && pair[0].is_string() => {
                json!({ "HostIp": pair[0], "HostPort": python::str(&pair[1]) })
            }
            Value::Null => json!({ "HostPort": "" }),
            one => json!({ "HostPort": python::str(one) }),
        };
        let bindings = match host {
            Value::Array(many) if !matches!(many.first(), Some(Value::String(_))) => {
                many.iter().map(binding).collect()
            }
            one => vec![binding(one)],
        };
        exposed.insert(port.clone(), json!({}));
        bound.insert(port, bindings.into());
    }
    extras
        .container
        .insert("ExposedPorts".to_owned(), exposed.into());
    extras.host.insert("PortBindings".to_owned(), bound.into());
    Ok(())
}

/// A flow run is started once. An engine that starts its container again would run it twice under one attempt.
fn refuse_restart(field: &str, value: &Value) -> Result<(), DriverError> {
    let name = ["Name", "name"]
        .iter()
        .find_map(|key| value.get(key)?.as_str());
    match name {
        None | Some("" | "no") => Ok(()),
        Some(_) => Err(refused(
            field,
            "must not make the engine start a flow run again; use the retries of the flow",
        )),
    }
}

/// Whether each field is of the form the engine's model has; the model's own error would quote the value.
fn check(extras: &Extras) -> Result<(), DriverError> {
    for (engine, value) in &extras.container {
        takes(engine, json!({ (engine): value }))?;
    }
    for (engine, value) in &extras.host {
        takes(engine, json!({ "HostConfig": { (engine): value } }))?;
    }
    Ok(())
}

fn takes(engine: &str, body: Value) -> Result<(), DriverError> {
    let taken = serde_json::from_value::<ContainerCreateBody>(body)
        .and_then(serde_json::to_value)
        .is_ok_and(|body| {
            body.get(engine)
                .or_else(|| body.get("HostConfig")?.get(engine))
                .is_some()
        });
    if taken {
        return Ok(());
    }
    let name = |table: &[(&'static str, &'static str, Form)]| {
        table
            .iter()
            .find(|(_, known, _)| *known == engine)
            .map(|(python, _, _)| *python)
    };
    let name = name(&CONTAINER).or_else(|| name(&HOST)).unwrap_or(engine);
    Err(refused(
        &format!("container_create_kwargs.{name}"),
        format!("has not the form that the engine's {engine} has"),
    ))
}

#[cfg(test)]
mod tests;
