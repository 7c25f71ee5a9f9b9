//! Images from a real registry that wants a password, over a way that can be slow or cut.

use std::{
    fs,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::Engine as _;
use bollard::{
    auth::DockerCredentials,
    query_parameters::{CreateImageOptions, PushImageOptions, RemoveImageOptions, TagImageOptions},
};
use futures::StreamExt as _;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::JoinSet,
};
use worker_config::policy::Policy;
use worker_drivers::{
    Driver, DriverError, Plan, RunKey,
    conformance::{Behaviour, Subject as _, fresh_key},
};

use crate::{
    containers::owner,
    subject::{DockerSubject, IMAGE},
};

const USER: &str = "ada";
/// With characters whose base64 differs between its two alphabets.
const PASSWORD: &str = "p~>?~~>>??w";

/// A registry, and a way to it that tests can watch and cut.
struct Registry {
    _folder: TempDir,
    _server: Child,
    _way: JoinSet<()>,
    traffic: Arc<Traffic>,
    port: u16,
}

#[derive(Default)]
struct Traffic {
    /// How many times the beginning of a manifest was asked for.
    manifests: AtomicUsize,
    /// Whether nothing big comes through any more.
    stalled: AtomicBool,
    /// Whether connections are cut as soon as something big comes.
    cut: AtomicBool,
}

// === impl Registry ===

impl Registry {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("there is room");
        let password = Command::new("htpasswd")
            .args(["-Bbn", USER, PASSWORD])
            .output()
            .await
            .expect("htpasswd is installed");
        fs::write(folder.path().join("htpasswd"), password.stdout).expect("there is room");
        let behind = free_port().await;
        let config = json!({
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": folder.path().join("data")}},
            "http": {"addr": format!("127.0.0.1:{behind}")},
            "auth": {"htpasswd": {"realm": "test", "path": folder.path().join("htpasswd")}},
        });
        let path = folder.path().join("config.yml");
        fs::write(&path, config.to_string()).expect("there is room");
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("docker-registry is installed");
        while TcpStream::connect(("127.0.0.1", behind)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let traffic = Arc::new(Traffic::default());
        let mut way = JoinSet::new();
        way.spawn(pass_on(listener, behind, Arc::clone(&traffic)));
        Self {
            _folder: folder,
            _server: server,
            _way: way,
            traffic,
            port,
        }
    }

    fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/team/{name}", self.port)
    }

    /// Holds the test image under a name that the engine does not know. It has its layers.
    async fn hold(&self, subject: &DockerSubject, name: &str) -> String {
        let image = self.image(name);
        let (repository, tag) = image.rsplit_once(':').expect("it has a tag");
        let options = TagImageOptions {
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
        };
        let tagged = subject.client().tag_image(IMAGE, Some(options)).await;
        tagged.expect("it can be tagged");
        self.push(subject, &image).await;
        image
    }

    /// Holds an image of which the engine has nothing, with some megabytes to pull. There is nothing to run in it.
    async fn hold_big(&self, subject: &DockerSubject, name: &str) -> String {
        let image = self.image(name);
        let mut noise = Vec::new();
        while noise.len() < 4 << 20 {
            noise.extend_from_slice(fresh_key().flow_run.as_bytes());
        }
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(noise.len() as u64);
        tar.append_data(&mut header, "noise", noise.as_slice())
            .expect("it is memory");
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(image.clone()),
            ..CreateImageOptions::default()
        };
        let body = bollard::body_full(tar.into_inner().expect("it is memory").into());
        let steps = subject
            .client()
            .create_image(Some(options), Some(body), None);
        for step in steps.collect::<Vec<_>>().await {
            step.expect("it can be imported");
        }
        self.push(subject, &image).await;
        image
    }

    async fn push(&self, subject: &DockerSubject, image: &str) {
        let (repository, tag) = image.rsplit_once(':').expect("it has a tag");
        let options = PushImageOptions {
            tag: Some(tag.to_owned()),
            ..PushImageOptions::default()
        };
        let credentials = DockerCredentials {
            username: Some(USER.to_owned()),
            password: Some(PASSWORD.to_owned()),
            ..DockerCredentials::default()
        };
        let engine = subject.registry_client();
        let pushed: Vec<_> = engine
            .push_image(repository, Some(options), Some(credentials))
            .collect()
            .await;
        for step in pushed {
            step.expect("it can be pushed");
        }
        self.forget(subject, image).await;
    }

    async fn forget(&self, subject: &DockerSubject, image: &str) {
        let removed = subject
            .client()
            .remove_image(image, None::<RemoveImageOptions>, None)
            .await;
        removed.expect("it was there");
    }
}

pub(crate) async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

async fn pass_on(listener: TcpListener, behind: u16, traffic: Arc<Traffic>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connect(client, behind, Arc::clone(&traffic)));
    }
}

/// Passes one connection on. What is bigger than a manifest is a layer.
async fn connect(client: TcpStream, behind: u16, traffic: Arc<Traffic>) {
    const BIG: usize = 8 * 1024;
    let Ok(server) = TcpStream::connect(("127.0.0.1", behind)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asked = async {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
            let text = String::from_utf8_lossy(&bytes[..length]);
            let asked = text
                .lines()
                .filter(|line| line.contains("/manifests/"))
                .count();
            traffic.manifests.fetch_add(asked, Ordering::Relaxed);
            if to_server.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    };
    let answered = async {
        let mut bytes = vec![0; 64 * 1024];
        let mut sent = 0;
        while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
            sent += length;
            if sent > BIG && traffic.cut.load(Ordering::Relaxed) {
                return;
            }
            while sent > BIG && traffic.stalled.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if to_client.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = asked => {}
        () = answered => {}
    }
}

/// A plan for a job with this image.
fn plan(
    subject: &DockerSubject,
    driver: &dyn Driver,
    image: &str,
    policy: &str,
    password: Option<&str>,
) -> Plan {
    let mut job = subject.job(fresh_key(), owner(), &Behaviour::Exit(0));
    let fields = &mut job.configuration;
    fields.insert("image".to_owned(), json!(image));
    fields.insert("image_pull_policy".to_owned(), json!(policy));
    if let Some(password) = password {
        let url = format!("http://{}", image.split('/').next().expect("a registry"));
        let credentials = json!({"username": USER, "password": password, "registry_url": url});
        fields.insert("registry_credentials".to_owned(), credentials);
    }
    driver
        .plan(&job, &Policy::default())
        .expect("it can be planned")
}

async fn starts(driver: &dyn Driver, plan: &Plan) -> Result<(), DriverError> {
    let submitted = tokio::time::timeout(Duration::from_mins(1), driver.submit(plan)).await;
    let key: RunKey = plan.key();
    submitted.expect("it answers")?;
    driver.destroy(key).await
}

#[tokio::test]
async fn the_right_password_pulls_and_a_wrong_one_is_denied_by_the_name_of_the_registry() {
    let subject = DockerSubject::new();
    let registry = Registry::start().await;
    let image = registry.hold(&subject, "password:1").await;
    let driver = subject.driver().await;
    for wrong in [Some("wrong"), None] {
        let plan = plan(&subject, driver.as_ref(), &image, "IfNotPresent", wrong);
        let error = starts(driver.as_ref(), &plan)
            .await
            .expect_err("it is denied");
        assert!(matches!(error, DriverError::Denied { .. }), "{error:?}");
        let text = format!("{error} {error:?} {plan:?}");
        assert!(text.contains(&image) && !text.contains("wrong"), "{text}");
    }
    let plan = plan(
        &subject,
        driver.as_ref(),
        &image,
        "IfNotPresent",
        Some(PASSWORD),
    );
    starts(driver.as_ref(), &plan).await.expect("it is pulled");
}

#[tokio::test]
async fn the_docker_configuration_of_the_worker_is_asked_where_the_job_says_nothing() {
    let subject = DockerSubject::new();
    let registry = Registry::start().await;
    let image = registry.hold(&subject, "configured:1").await;
    let options = subject.options();
    fs::create_dir(&options.config_folder).expect("there is room");
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let host = format!("127.0.0.1:{}", registry.port);
    let config = json!({"auths": {host: {"auth": auth}}});
    fs::write(
        options.config_folder.join("config.json"),
        config.to_string(),
    )
    .expect("there is room");
    let driver = subject.driver().await;
    let plan = plan(&subject, driver.as_ref(), &image, "Always", None);
    starts(driver.as_ref(), &plan).await.expect("it is pulled");
}

#[tokio::test]
async fn a_tag_that_is_not_there_is_not_found() {
    let subject = DockerSubject::new();
    let registry = Registry::start().await;
    registry.hold(&subject, "tags:1").await;
    let driver = subject.driver().await;
    let image = registry.image("tags:2");
    let plan = plan(
        &subject,
        driver.as_ref(),
        &image,
        "IfNotPresent",
        Some(PASSWORD),
    );
    let error = starts(driver.as_ref(), &plan)
        .await
        .expect_err("there is none");
    assert!(
        matches!(&error, DriverError::NotFound { what } if what.contains(&image)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_registry_that_is_away_harms_only_those_who_need_it() {
    let subject = DockerSubject::new();
    let driver = subject.driver().await;
    let gone = format!("127.0.0.1:{}/team/gone:1", free_port().await);
    let (repository, _) = gone.rsplit_once(':').expect("it has a tag");
    let options = TagImageOptions {
        repo: Some(repository.to_owned()),
        tag: Some("1".to_owned()),
    };
    subject
        .client()
        .tag_image(IMAGE, Some(options))
        .await
        .expect("it can be tagged");
    for policy in ["IfNotPresent", "IfPossible", "Never"] {
        let plan = plan(&subject, driver.as_ref(), &gone, policy, None);
        starts(driver.as_ref(), &plan).await.expect(policy);
    }
    let plan = plan(&subject, driver.as_ref(), &gone, "Always", None);
    let error = starts(driver.as_ref(), &plan)
        .await
        .expect_err("nobody answers");
    assert!(
        error.is_transient() && error.to_string().contains(&gone),
        "{error:?}"
    );
    let removed = subject
        .client()
        .remove_image(&gone, None::<RemoveImageOptions>, None)
        .await;
    removed.expect("it was there");
}

#[tokio::test]
async fn a_pull_that_breaks_off_may_be_tried_again() {
    let subject = DockerSubject::new();
    let registry = Registry::start().await;
    let image = registry.hold_big(&subject, "broken:1").await;
    let driver = subject.driver().await;
    let plan = plan(
        &subject,
        driver.as_ref(),
        &image,
        "IfNotPresent",
        Some(PASSWORD),
    );
    registry.traffic.cut.store(true, Ordering::Relaxed);
    let error = starts(driver.as_ref(), &plan)
        .await
        .expect_err("it breaks off");
    assert!(error.is_transient(), "{error:?}");
    registry.traffic.cut.store(false, Ordering::Relaxed);
    starts(driver.as_ref(), &plan)
        .await
        .expect("it is whole now");
    registry.forget(&subject, &image).await;
}

#[tokio::test]
async fn many_that_need_the_same_image_pull_it_once() {
    let subject = DockerSubject::new();
    let registry = Registry::start().await;
    let image = registry.hold(&subject, "once:1").await;
    let driver = subject.driver().await;
    let before = registry.traffic.manifests.load(Ordering::Relaxed);
    let alone = plan(
        &subject,
        driver.as_ref(),
        &image,
        "IfNotPresent",
        Some(PASSWORD),
    );
    starts(driver.as_ref(), &alone).await.expect("it is pulled");
    let of_one = registry.traffic.manifests.load(Ordering::Relaxed) - before;
    assert!(of_one > 0);
    registry.forget(&subject, &image).await;
    let plans: Vec<_> = (0..20)
        .map(|_| {
            plan(
                &subject,
                driver.as_ref(),
                &image,
                "IfNotPresent",
                Some(PASSWORD),
            )
        })
        .collect();
    let before = registry.traffic.manifests.load(Ordering::Relaxed);
    let all = plans.iter().map(|plan| starts(driver.as_ref(), plan));
    for started in futures::future::join_all(all).await {
        started.expect("it is pulled");
    }
    let of_many = registry.traffic.manifests.load(Ordering::Relaxed) - before;
    // An engine that has just asked may remember the answer.
    assert!((1..=of_one).contains(&of_many), "{of_many}, {of_one}");
    registry.forget(&subject, &image).await;
}

#[tokio::test]
async fn a_submit_that_is_dropped_while_it_pulls_leaves_nothing() {
    let subject = DockerSubject::new();
    let registry = Registry::start().await;
    let image = registry.hold_big(&subject, "dropped:1").await;
    let driver = subject.driver().await;
    registry.traffic.stalled.store(true, Ordering::Relaxed);
    let plan = plan(
        &subject,
        driver.as_ref(),
        &image,
        "IfNotPresent",
        Some(PASSWORD),
    );
    let dropped = tokio::time::timeout(Duration::from_secs(2), driver.submit(&plan)).await;
    assert!(dropped.is_err(), "it was not stalled");
    driver
        .destroy(plan.key())
        .await
        .expect("there is nothing to remove");
    registry.traffic.stalled.store(false, Ordering::Relaxed);
    let images = subject.client().inspect_image(&image).await;
    assert!(images.is_err(), "it was pulled although nobody waited");
    assert_eq!(subject.containers(plan.key()).await, Vec::<String>::new());
}
