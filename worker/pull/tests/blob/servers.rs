//! The servers, each test with its own, and what fills them and looks at what was pulled.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use object_store::{
    Attribute, Attributes, ClientOptions, ObjectStore, ObjectStoreExt, PutOptions,
    azure::{MicrosoftAzure, MicrosoftAzureBuilder},
};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use worker_pull::{
    Operation, Retry,
    blob::{Ambient, BlobError, Downloaded, Source, Terms, download},
};

/// The account of Azurite, as its documentation has it.
pub(crate) const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A server, ended with the test.
pub(crate) struct Server {
    _process: Child,
    /// Nobody reads on, but the server would end if nobody could.
    _output: Lines<BufReader<ChildStdout>>,
    pub(crate) port: u16,
    pub(crate) url: String,
}

/// Where a test pulls to, and what it was told.
pub(crate) struct Desk {
    pub(crate) directory: TempDir,
    pub(crate) operation: Operation,
    pub(crate) terms: Terms,
    told: Arc<Mutex<Vec<String>>>,
}

// === impl Server ===

impl Server {
    /// An S3 server, empty.
    pub(crate) async fn moto() -> Self {
        Self::start(moto()).await
    }

    /// An S3 server with a bucket of many small objects below `folder`.
    pub(crate) async fn full_moto(bucket: &str, folder: &str, count: usize) -> Self {
        let mut command = moto();
        command.args([bucket, folder, &count.to_string()]);
        Self::start(command).await
    }

    /// An Azure server, empty.
    pub(crate) async fn azurite() -> Self {
        let mut command = Command::new(installed("node_modules/.bin/azurite-blob"));
        command.args(["--inMemoryPersistence", "--silent", "--skipApiVersionCheck"]);
        command.args(["--disableTelemetry", "--blobPort", "0"]);
        Self::start(command).await
    }

    /// Starts it on a port of its own choice, and waits until it has said which.
    async fn start(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the server can be started");
        let output = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines();
        let told = async {
            while let Some(line) = lines.next_line().await.expect("it speaks text") {
                // Azurite first says where it is about to listen.
                if line.contains("starting") {
                    continue;
                }
                if let Some((_, port)) = line.rsplit_once("http://127.0.0.1:") {
                    return port.trim().parse().expect("a port");
                }
            }
            panic!("the server ended");
        };
        let port = timeout(Duration::from_mins(1), told)
            .await
            .expect("it comes up");
        Self {
            _process: process,
            _output: lines,
            port,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// From now on moto looks at signatures and at what their owners may do.
    pub(crate) async fn demand_authentication(&self) {
        let request = plain_client().post(format!("{}/moto-api/reset-auth", self.url));
        ask(request.body("0")).await;
    }

    /// Makes a user that may do anything, and a role of the name `reader`; gives the user's key.
    pub(crate) async fn make_user(&self) -> (String, String) {
        const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
        let call = async |form: &[(&str, &str)]| {
            let form = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(form)
                .finish();
            let request = plain_client()
                .post(&self.url)
                .header("content-type", "application/x-www-form-urlencoded")
                .header("authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x");
            ask(request.body(form)).await
        };
        let version = ("Version", "2010-05-08");
        call(&[("Action", "CreateUser"), version, ("UserName", "u")]).await;
        let policy = ("PolicyDocument", POLICY);
        call(&[
            ("Action", "PutUserPolicy"),
            version,
            ("UserName", "u"),
            ("PolicyName", "all"),
            policy,
        ])
        .await;
        let trust = ("AssumeRolePolicyDocument", POLICY);
        call(&[
            ("Action", "CreateRole"),
            version,
            ("RoleName", "reader"),
            trust,
        ])
        .await;
        call(&[
            ("Action", "PutRolePolicy"),
            version,
            ("RoleName", "reader"),
            ("PolicyName", "all"),
            policy,
        ])
        .await;
        let answer = call(&[("Action", "CreateAccessKey"), version, ("UserName", "u")]).await;
        let field = |name: &str| {
            let (_, rest) = answer
                .split_once(&format!("<{name}>"))
                .expect("it is there");
            rest.split_once('<').expect("it ends").0.to_owned()
        };
        (field("AccessKeyId"), field("SecretAccessKey"))
    }

    /// Makes a bucket with these objects. A key is sent as it is, so that it may be one that no client would send.
    pub(crate) async fn fill_bucket(&self, bucket: &str, objects: &[(&str, &[u8])]) {
        self.put(&format!("/{bucket}"), b"").await;
        for (key, content) in objects {
            self.put(&format!("/{bucket}/{}", encode(key)), content)
                .await;
        }
    }

    /// Sends a request byte by byte: any HTTP client would tidy `..` up.
    async fn put(&self, path: &str, content: &[u8]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .expect("it listens");
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nx-amz-acl: public-read\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        stream.write_all(content).await.expect("it reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Makes a container with these blobs.
    pub(crate) async fn fill_container(&self, container: &str, blobs: &[(&str, &[u8])]) {
        let store = self.container(container);
        self.make_container(container).await;
        for (key, content) in blobs {
            let path = object_store::path::Path::parse(key).expect("a key of a test");
            store
                .put(&path, content.to_vec().into())
                .await
                .expect("it is put");
        }
    }

    /// Puts a blob that only stands for a folder, as Azure's data lake does.
    pub(crate) async fn mark_folder(&self, container: &str, folder: &str) {
        let attributes =
            Attributes::from_iter([(Attribute::Metadata("hdi_isfolder".into()), "true")]);
        let options = PutOptions {
            attributes,
            ..PutOptions::default()
        };
        let path = object_store::path::Path::from(folder);
        let put = self
            .container(container)
            .put_opts(&path, Vec::new().into(), options)
            .await;
        put.expect("it is put");
    }

    fn container(&self, container: &str) -> MicrosoftAzure {
        crypto();
        MicrosoftAzureBuilder::new()
            .with_account("devstoreaccount1")
            .with_access_key(AZURITE_KEY)
            .with_container_name(container)
            .with_endpoint(format!("{}/devstoreaccount1", self.url))
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .build()
            .expect("the container can be opened")
    }

    /// `object_store` makes no containers, so the request is signed here.
    async fn make_container(&self, container: &str) {
        use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
        let key = AzureAccessKey::try_new(AZURITE_KEY).expect("the key is one");
        let credential = AzureCredential::AccessKey(key);
        let mut request = http::Request::builder()
            .method("PUT")
            .uri(format!(
                "{}/devstoreaccount1/{container}?restype=container",
                self.url
            ))
            .header("content-length", "0")
            .body(object_store::client::HttpRequestBody::empty())
            .expect("a request");
        AzureAuthorizer::new(&credential, "devstoreaccount1")
            .try_authorize(&mut request)
            .expect("signed");
        let client = plain_client();
        let answer = object_store::client::HttpService::call(&client, request)
            .await
            .expect("an answer");
        assert!(answer.status().is_success(), "{:?}", answer.status());
    }
}

// === impl Desk ===

impl Desk {
    /// An empty directory, an empty environment, and little patience.
    pub(crate) fn new() -> Self {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let ear = Arc::clone(&told);
        Self {
            directory: TempDir::new().expect("a directory"),
            operation: Operation {
                cancelled: CancellationToken::new(),
                progress: Arc::new(move |line| ear.lock().expect("whole").push(line)),
            },
            terms: Terms {
                ambient: Ambient::from_iter([("AWS_EC2_METADATA_DISABLED", "true")]),
                stall: Duration::from_secs(30),
                retry: Retry {
                    attempts: 4,
                    first_delay: Duration::from_millis(5),
                    max_delay: Duration::from_millis(20),
                },
            },
            told,
        }
    }

    /// The same with these variables of the environment.
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        let mut desk = Self::new();
        let all = variables
            .iter()
            .copied()
            .chain([("AWS_EC2_METADATA_DISABLED", "true")]);
        desk.terms.ambient = all.collect();
        desk
    }

    pub(crate) async fn step(&self, name: &str, inputs: Value) -> Result<Downloaded, BlobError> {
        let source = Source::from_step(name, &map(inputs)).expect("the inputs are good");
        self.pull(&source).await
    }

    pub(crate) async fn block(&self, slug: &str, data: Value) -> Result<Downloaded, BlobError> {
        let source = Source::from_block(slug, "mine", &map(data)).expect("the block is good");
        self.pull(&source).await
    }

    pub(crate) async fn pull(&self, source: &Source) -> Result<Downloaded, BlobError> {
        download(&self.operation, source, self.path(), &self.terms).await
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What the run's log would say.
    pub(crate) fn told(&self) -> String {
        self.told.lock().expect("whole").join("\n")
    }

    /// Every file below the directory with its content, hidden ones too.
    pub(crate) fn tree(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        walk(self.path(), self.path(), &mut found);
        found
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.tree().into_keys().collect()
    }
}

// === functions ===

/// Sends a request that must succeed.
async fn ask(request: reqwest::RequestBuilder) -> String {
    let response = request.send().await.expect("the server answers");
    let status = response.status();
    let text = response.text().await.expect("the server answers with text");
    assert!(status.is_success(), "{status}: {text}");
    text
}

pub(crate) fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no mapping"),
    }
}

fn walk(root: &Path, directory: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            walk(root, &path, found);
            if fs::read_dir(&path).expect("a directory").next().is_none() {
                found.insert(
                    format!("{}/", path.strip_prefix(root).expect("below").display()),
                    String::new(),
                );
            }
        } else {
            let content = fs::read(&path).unwrap_or_default();
            let name = path
                .strip_prefix(root)
                .expect("below")
                .display()
                .to_string();
            found.insert(name, String::from_utf8_lossy(&content).into_owned());
        }
    }
}

fn moto() -> Command {
    let mut command = Command::new(installed("venv/bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers/s3.py"));
    command
}

fn installed(program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/.cache/servers")
        .join(program);
    assert!(
        path.exists(),
        "{} is missing: tests/servers/set-up installs it",
        path.display()
    );
    path
}

pub(crate) fn plain_client() -> reqwest::Client {
    crypto();
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client")
}

fn crypto() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Percent-encodes all but slashes and letters; dots too, so that nothing on the way tidies them up.
fn encode(key: &str) -> String {
    key.bytes()
        .map(|byte| match byte {
            b'/' => "/".to_owned(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
