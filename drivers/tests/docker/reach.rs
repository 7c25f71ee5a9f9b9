//! Ways to an engine: TCP with certificates on both sides, and contexts of the Docker command line.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;
use worker_config::policy::Policy;
use worker_drivers::{
    Driver, Health,
    conformance::{Behaviour, Subject as _, fresh_key},
    docker::{DockerDriver, Endpoint},
};

use crate::{containers::owner, registry::free_port, subject::DockerSubject};

/// An engine on TCP that wants certificates, with those that it and its clients have.
struct TlsEngine {
    folder: TempDir,
    port: u16,
}

// === impl TlsEngine ===

impl TlsEngine {
    async fn start() -> Self {
        let engine = Self {
            // A socket's path may be no longer than 107 bytes.
            folder: TempDir::with_prefix_in("engine-", "/tmp").expect("there is room"),
            port: free_port().await,
        };
        let certificates = engine.certificates();
        make_certificates(&certificates);
        let file = |name: &str| certificates.join(name).display().to_string();
        let output = engine
            .script("start")
            .args(["--host", &format!("tcp://127.0.0.1:{}", engine.port)])
            .args(["--tlsverify", "--tlscacert", &file("ca.pem")])
            .args(["--tlscert", &file("cert.pem"), "--tlskey", &file("key.pem")])
            .output()
            .expect("bash is installed");
        assert!(output.status.success(), "{output:?}");
        engine
    }

    fn certificates(&self) -> PathBuf {
        self.folder.path().join("certificates")
    }

    fn url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    fn script(&self, verb: &str) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/docker/engine");
        let mut command = Command::new(script);
        command
            .arg(verb)
            .env("WORKER_TEST_ENGINE_DIR", self.folder.path())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for TlsEngine {
    fn drop(&mut self) {
        drop(self.script("stop").output());
    }
}

/// An authority, and one certificate of its that serves both sides.
fn make_certificates(folder: &Path) {
    std::fs::create_dir(folder).expect("there is room");
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca-key.pem -out ca.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=engine -keyout key.pem -out request.pem
        printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' > extensions
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile extensions -out cert.pem
    ";
    let output = Command::new("sh")
        .args(["-e", "-c", script])
        .current_dir(folder)
        .output()
        .expect("there is a shell");
    assert!(output.status.success(), "{output:?}");
}

/// A driver with nothing but these variables.
async fn driver(subject: &DockerSubject, variables: &[(&str, &str)]) -> DockerDriver {
    let variables: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut options = subject.options();
    options.endpoint = Endpoint::find(&variables).expect("it leads somewhere");
    let driver = DockerDriver::connect(options).await;
    driver.expect("the address is one")
}

async fn runs(subject: &DockerSubject, driver: &DockerDriver) -> String {
    assert_eq!(*driver.health().borrow(), Health::Up);
    let job = subject.job(fresh_key(), owner(), &Behaviour::Wait);
    let plan = driver
        .plan(&job, &Policy::default())
        .expect("it can be planned");
    let handle = driver.submit(&plan).await.expect("it starts").into_handle();
    driver.destroy(handle.key).await.expect("it can be removed");
    handle.infrastructure_id
}

#[tokio::test]
async fn an_engine_that_wants_certificates_is_reached_by_variables_and_by_context() {
    let subject = DockerSubject::new();
    let engine = TlsEngine::start().await;
    let (url, certificates) = (engine.url(), engine.certificates());
    let certificates = certificates.to_str().expect("it is text");
    let by_variables = driver(
        &subject,
        &[
            ("DOCKER_HOST", &url),
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_CERT_PATH", certificates),
        ],
    )
    .await;
    let id = runs(&subject, &by_variables).await;
    let begins = format!("https://127.0.0.1:{}:", engine.port);
    assert!(id.starts_with(&begins), "{id}");

    // As somebody makes it with the command line, and then uses it.
    let config = engine.folder.path().join("config");
    let config = config.to_str().expect("it is text");
    let place = format!(
        "host={url},ca={certificates}/ca.pem,cert={certificates}/cert.pem,key={certificates}/key.pem"
    );
    for arguments in [
        &["context", "create", "far", "--docker", &place] as &[&str],
        &["context", "use", "far"],
    ] {
        let output = Command::new("docker")
            .args(arguments)
            .env("DOCKER_CONFIG", config)
            .env_remove("DOCKER_HOST")
            .output()
            .expect("the Docker command line is installed");
        assert!(output.status.success(), "{output:?}");
    }
    let by_context = driver(&subject, &[("DOCKER_CONFIG", config)]).await;
    runs(&subject, &by_context).await;
    let by_name = [("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "far")];
    runs(&subject, &driver(&subject, &by_name).await).await;
}

#[tokio::test]
async fn an_engine_that_trusts_somebody_else_is_down_with_the_reason() {
    let subject = DockerSubject::new();
    let engine = TlsEngine::start().await;
    let others = engine.folder.path().join("others");
    make_certificates(&others);
    let url = engine.url();
    let without = driver(&subject, &[("DOCKER_HOST", &url)]).await;
    let stranger = driver(
        &subject,
        &[
            ("DOCKER_HOST", &url),
            ("DOCKER_CERT_PATH", others.to_str().expect("it is text")),
        ],
    )
    .await;
    for driver in [without, stranger] {
        let health = driver.health().borrow().clone();
        let Health::Down { reason } = health else {
            panic!("it has no business there");
        };
        assert!(!reason.is_empty());
        println!("{reason}");
    }
}
