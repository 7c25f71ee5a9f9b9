//! A credential helper of the Docker command line: the worker asks it when there is something to pull, and not before.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
};

use serde_json::json;
use tempfile::TempDir;
use worker_tests::{prefect::free_address, wait};

use crate::stage::{BOUND, IMAGE, POOL, Stage, docker, docker_at, host};

/// A registry that wants a password, with one image in it.
struct Registry {
    server: Child,
    folder: TempDir,
    place: String,
}

// === impl Registry ===

impl Registry {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("there is room");
        let place = free_address().expect("a port is free").to_string();
        let password = Command::new("htpasswd")
            .args(["-Bbn", "ada", "secret"])
            .output()
            .expect("htpasswd is installed");
        fs::write(folder.path().join("htpasswd"), password.stdout).expect("there is room");
        let config = json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": folder.path().join("data")}},
            "http": {"addr": place},
            "auth": {"htpasswd": {"realm": "test", "path": folder.path().join("htpasswd")}},
        });
        fs::write(folder.path().join("config.yml"), config.to_string()).expect("there is room");
        let log = File::create(folder.path().join("log")).expect("there is room");
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.path().join("config.yml"))
            .stdout(log.try_clone().expect("a file has more than one hold"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self {
            server,
            folder,
            place,
        };
        let answers = || std::net::TcpStream::connect(&registry.place).is_ok();
        assert!(wait::holds(BOUND, answers), "it does not answer");
        registry
    }

    /// Takes an image in, as somebody does who has logged in.
    fn push(&self, name: &str) -> String {
        let image = format!("{}/team/{name}", self.place);
        let config = self.folder.path().join("login");
        let config = config.to_str().expect("it is text");
        let host = host();
        docker(&["tag", IMAGE, &image]);
        let login = [
            "login",
            "--username",
            "ada",
            "--password",
            "secret",
            &self.place,
        ];
        for arguments in [&login as &[&str], &["push", &image]] {
            let with = [&["--config", config], arguments].concat();
            docker_at(&host, &with);
        }
        docker(&["rmi", &image]);
        image
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

#[test]
fn a_credential_helper_is_asked_when_there_is_something_to_pull() {
    let registry = Registry::start();
    let image = registry.push("helped:1");
    let stage = Stage::set();
    let worker = stage.worker();
    let (bin, config) = (worker.directory("bin"), worker.directory("config"));
    let asked = bin.join("asked");
    let script = format!(
        "#!/bin/sh\ncat >> {0}; echo \" $1\" >> {0}\necho '{{\"Username\": \"ada\", \"Secret\": \"secret\"}}'\n",
        asked.display()
    );
    let program = bin.join("docker-credential-test");
    fs::write(&program, script).expect("there is room");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).expect("it is ours");
    let helpers = json!({"credHelpers": {registry.place.clone(): "test"}});
    fs::write(config.join("config.json"), helpers.to_string()).expect("there is room");
    let path = std::env::var("PATH").unwrap_or_default();
    let worker = worker
        .with("PATH", format!("{}:{path}", bin.display()))
        .with("DOCKER_CONFIG", config.display().to_string());
    let running = worker.start(&["--pool", POOL]);

    let needs_none = stage.run("true", &json!({}));
    let (ended, message) = stage.wait_for_end(&needs_none, &running);
    assert_eq!(ended, "Completed", "{message}");
    assert!(!asked.exists(), "it was asked for nothing");

    let run = stage.run(
        "true",
        &json!({"image": image, "image_pull_policy": "IfNotPresent"}),
    );
    let (ended, message) = stage.wait_for_end(&run, &running);
    assert_eq!(ended, "Completed", "{message}");
    let questions = fs::read_to_string(&asked).expect("it was asked");
    assert_eq!(questions, format!("{} get\n", registry.place));
    docker(&["rmi", &image]);
}
