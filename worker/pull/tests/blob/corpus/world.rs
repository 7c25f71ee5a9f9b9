//! What the lists of the corpus find: repositories, buckets, a directory, a package, and a Prefect server with blocks and variables.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use axum::Router;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpListener};
use worker_config::template::{Lookups, References};
use worker_pull::git::{Bounds, Git, Options, Patience};

use crate::{
    git_server::{self, Front},
    servers::{AZURITE_KEY, Desk, Server, plain_client},
};

const PASSWORD: &str = "s3cret-of-the-corpus";

/// Everything that a case may name.
pub(super) struct World {
    pub(super) git: Git,
    pub(super) desk: Desk,
    root: TempDir,
    api: String,
    names: BTreeMap<&'static str, String>,
    _api: tokio::process::Child,
    _open: git_server::Server,
    _closed: git_server::Server,
    _stores: [Server; 2],
    _web: tokio::task::JoinHandle<()>,
}

/// What the reference made of a case.
#[derive(Debug, Deserialize)]
pub(super) struct Theirs {
    name: String,
    pub(super) outputs: Map<String, Value>,
    pub(super) error: Option<TheirError>,
    pub(super) directory: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct TheirError {
    pub(super) index: usize,
    pub(super) text: String,
}

// === impl World ===

impl World {
    pub(super) async fn make() -> Self {
        let root = TempDir::with_prefix("corpus-").expect("a directory");
        let repositories = root.path().join("served");
        let commits = make_repositories(&repositories);
        let front = |asks_for| Front {
            asks_for,
            ..Front::default()
        };
        let open = git_server::Server::start(&repositories, front(None)).await;
        let owner = Some(("someone".to_owned(), PASSWORD.to_owned()));
        let closed = git_server::Server::start_tls(&repositories, front(owner)).await;
        let (s3, azure) = stores().await;
        let (web, web_address) = serve_a_file().await;
        let shared = root.path().join("shared");
        write(&shared, "flow.py", "print('shared')\n");
        write(&shared, "pkg/__init__.py", "");
        make_wheel(&root.path().join("wheels"));
        let (server, api) = prefect(root.path()).await;
        let at = |path: &Path| path.display().to_string();
        let authority = closed.url("");
        let authority = authority.trim_end_matches('/');
        let azure_url = format!(
            "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={AZURITE_KEY};BlobEndpoint={}/devstoreaccount1;",
            azure.url
        );
        let names = BTreeMap::from([
            ("SHARED", at(&shared)),
            ("REPOS", at(&repositories)),
            ("HTTP", open.url("").trim_end_matches('/').to_owned()),
            ("AUTH", authority.to_owned()),
            (
                "AUTHOF",
                authority.replace("://", &format!("://someone:{PASSWORD}@")),
            ),
            ("PASSWORD", PASSWORD.to_owned()),
            ("FIRST", commits[0].clone()),
            ("SHORT", commits[0][..9].to_owned()),
            ("PARENT", commits[1].clone()),
            ("S3", s3.url.clone()),
            ("AZURE", azure_url),
            ("WEB", format!("http://{web_address}")),
            ("WEBHOST", web_address),
        ]);
        let git = Git::new(Options {
            cache: root.path().join("cache"),
            bounds: Bounds::default(),
            patience: Patience::default(),
            certificates: closed.certificate.clone(),
            ssh: vec!["ssh".to_owned()],
            lfs: true,
        });
        Self {
            git: git.expect("the certificate can be read"),
            desk: Desk::new(),
            root,
            api,
            names,
            _api: server,
            _open: open,
            _closed: closed,
            _stores: [s3, azure],
            _web: web,
        }
    }

    /// Puts in what `@NAME@` stands for, and `@KEYS@`.
    pub(super) fn fill(&self, text: &str) -> String {
        let keys = r#"{"aws_access_key_id": "test", "aws_secret_access_key": "test"}"#;
        let text = text.replace("\"@KEYS@\"", keys);
        self.names.iter().fold(text, |text, (name, value)| {
            text.replace(&format!("@{name}@"), value)
        })
    }

    /// Where a case is run: two directories below one of its own, so that what leads out can be seen.
    pub(super) fn place(&self, who: &str, number: usize) -> PathBuf {
        self.root
            .path()
            .join(format!("cases/{who}/{number}/one/two"))
    }

    /// Makes the places of a case with its files, and the reference's order for it.
    pub(super) fn order(
        &self,
        number: usize,
        name: &str,
        steps: &Value,
        files: &BTreeMap<String, String>,
    ) -> Value {
        for who in ["ours", "reference"] {
            let place = self.place(who, number);
            fs::create_dir_all(&place).expect("a directory");
            for (path, text) in files {
                write(&place, path, text);
            }
        }
        let place = self.place("reference", number);
        json!({"name": name, "steps": steps, "directory": place, "environment": {}})
    }

    /// What programs of a case find in their environment.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let home = self.root.path().join("home");
        fs::create_dir_all(&home).expect("a directory");
        let path = std::env::var("PATH").expect("a PATH");
        let certificate = self.root.path().join("tls.crt");
        BTreeMap::from(
            [
                ("PATH", format!("{}:{path}", reference("bin").display())),
                ("HOME", home.display().to_string()),
                ("LANG", "C.UTF-8".to_owned()),
                ("CASE", "corpus".to_owned()),
                ("PIP_NO_INDEX", "1".to_owned()),
                (
                    "PIP_FIND_LINKS",
                    self.root.path().join("wheels").display().to_string(),
                ),
                ("PIP_TARGET", "site".to_owned()),
                ("PIP_NO_COMPILE", "0".to_owned()),
                ("PIP_DISABLE_PIP_VERSION_CHECK", "1".to_owned()),
                (
                    "GIT_CONFIG_GLOBAL",
                    self.root.path().join("gitconfig").display().to_string(),
                ),
                ("GIT_SSL_CAINFO", certificate.display().to_string()),
                ("GIT_TERMINAL_PROMPT", "0".to_owned()),
                ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
                ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        )
    }

    /// Runs every case by the reference.
    pub(super) async fn reference(&self, cases: Vec<Value>) -> BTreeMap<String, Theirs> {
        let order = json!({"blocks": self.blocks(), "variables": variables(), "cases": cases});
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers/steps.py");
        let mut child = tokio::process::Command::new(python())
            .arg(script)
            .env_clear()
            .envs(self.environment())
            .env("PREFECT_HOME", self.root.path().join("home/prefect"))
            .env("PREFECT_API_URL", &self.api)
            .env("DO_NOT_TRACK", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the reference can be started");
        let mut stdin = child.stdin.take().expect("it is piped");
        let order = self.fill(&order.to_string());
        stdin.write_all(order.as_bytes()).await.expect("it reads");
        drop(stdin);
        let done = tokio::time::timeout(Duration::from_mins(15), child.wait_with_output());
        let done = done.await.expect("it ends").expect("it can be waited for");
        assert!(done.status.success(), "the reference has failed");
        let text = String::from_utf8(done.stdout).expect("text");
        text.lines()
            .map(|line| {
                let theirs: Theirs =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                (theirs.name.clone(), theirs)
            })
            .collect()
    }

    fn blocks(&self) -> Value {
        let tricky = format!("{{{{ {} }}}}", "$CASE");
        let s3 = json!({"endpoint_url": self.names["S3"]});
        let keys = json!({
            "aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1",
            "aws_client_parameters": s3,
        });
        json!([
            {"type": "secret", "name": "word", "data": {"value": "plain-word"}},
            {"type": "secret", "name": "tree", "data": {"value": {"branch": {"leaf": "green"}}}},
            {"type": "secret", "name": "tricky", "data": {"value": tricky}},
            {"type": "bitbucket-credentials", "name": "git", "data": {"username": "someone", "password": PASSWORD}},
            {"type": "aws-credentials", "name": "keys", "data": keys},
            {"type": "local-file-system", "name": "shared", "data": {"basepath": self.names["SHARED"]}},
            {"type": "s3-bucket", "name": "bucket", "data": {"bucket_name": "code", "bucket_folder": "p", "credentials": keys}},
            {"type": "remote-file-system", "name": "remote", "data": {
                "basepath": "s3://code/p",
                "settings": {"key": "test", "secret": "test", "client_kwargs": {"endpoint_url": self.names["S3"]}},
            }},
        ])
    }

    /// Reads what steps refer to from the server, as a worker would.
    pub(super) async fn look_up(&self, references: &References) -> Lookups {
        let mut lookups = Lookups::default();
        for (slug, name) in &references.blocks {
            let path =
                format!("block_types/slug/{slug}/block_documents/name/{name}?include_secrets=true");
            let found = self.get(&path).await;
            let data = found.and_then(|block| block["data"].as_object().cloned());
            lookups.blocks.insert((slug.clone(), name.clone()), data);
        }
        for name in &references.variables {
            let found = self.get(&format!("variables/name/{name}")).await;
            let value = found.map(|variable| variable["value"].clone());
            lookups.variables.insert(name.clone(), value);
        }
        lookups
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let answer = plain_client().get(format!("{}/{path}", self.api)).send();
        let answer = answer.await.expect("the server answers");
        let found = answer.status().is_success();
        let text = answer.text().await.expect("the server answers with text");
        found.then(|| serde_json::from_str(&text).expect("JSON"))
    }
}

// === functions ===

fn variables() -> Value {
    json!({"greeting": "hello", "number": 7, "mapping": {"A": "a"}})
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("below")).expect("a directory");
    fs::write(path, text).expect("a file");
}

/// The interpreter that has the reference in it.
pub(super) fn python() -> PathBuf {
    reference("bin/python")
}

fn reference(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/.cache/reference");
    assert!(
        root.join("bin/prefect").exists(),
        "{} is missing: tests/servers/set-up installs it",
        root.display()
    );
    root.join(path)
}

/// `code.git`, `plain` and `parent.git`, which has `code.git` as a submodule; the ids of the first commit of `code.git` and of `parent.git`.
fn make_repositories(root: &Path) -> [String; 2] {
    let outer = root.parent().expect("it is below");
    let config = outer.join("gitconfig");
    fs::write(
        &config,
        "[user]\nname = Test\nemail = test@localhost\n[protocol \"file\"]\nallow = always\n[safe]\ndirectory = *\n[init]\ndefaultBranch = main\n[uploadpack]\nallowAnySHA1InWant = true\n",
    )
    .expect("a file");
    let git = |directory: &str, arguments: &[&str]| {
        let directory = root.join(directory);
        fs::create_dir_all(&directory).expect("a directory");
        let done = Command::new("git")
            .current_dir(&directory)
            .env("GIT_CONFIG_GLOBAL", &config)
            .args(arguments)
            .output()
            .expect("git is installed");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "git {arguments:?}: {said}");
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    };
    let commit = |name: &str, message: &str| {
        git(name, &["add", "--all"]);
        git(name, &["commit", "--quiet", "--message", message]);
        git(name, &["rev-parse", "HEAD"])
    };
    let code = root.join("code.git");
    git("code.git", &["init", "--quiet"]);
    for (path, text) in [
        ("flow.py", "print('first')\n"),
        ("deep/er/one.txt", "1\n"),
        ("deep/side.txt", "side\n"),
        ("other/two.txt", "2\n"),
        ("with space/ä.txt", "umlaut\n"),
        ("empty.txt", ""),
        (".gitattributes", "crlf.txt text eol=crlf\n"),
        ("crlf.txt", "a\nb\n"),
        ("run.sh", "#!/bin/sh\n"),
    ] {
        write(&code, path, text);
    }
    std::os::unix::fs::symlink("deep/er", code.join("link")).expect("a link");
    git("code.git", &["add", "--all"]);
    git("code.git", &["update-index", "--chmod=+x", "run.sh"]);
    git("code.git", &["commit", "--quiet", "--message", "first"]);
    let first = git("code.git", &["rev-parse", "HEAD"]);
    git("code.git", &["tag", "--annotate", "v1", "--message", "one"]);
    git("code.git", &["checkout", "--quiet", "--force", "."]);
    write(&code, "flow.py", "print('second')\n");
    commit("code.git", "second");
    git("code.git", &["checkout", "--quiet", "-b", "feature/x"]);
    write(&code, "flow.py", "print('feature')\n");
    commit("code.git", "third");
    git("code.git", &["checkout", "--quiet", "main"]);
    git("plain", &["init", "--quiet"]);
    write(&root.join("plain"), "plain.py", "");
    commit("plain", "plain");
    git("parent.git", &["init", "--quiet"]);
    write(&root.join("parent.git"), "top.py", "");
    git(
        "parent.git",
        &["submodule", "--quiet", "add", "../code.git", "libs/code"],
    );
    let parent = commit("parent.git", "parent");
    [first, parent]
}

async fn stores() -> (Server, Server) {
    let s3 = Server::moto().await;
    s3.fill_bucket(
        "code",
        &[
            ("p/a.py", b"a"),
            ("p/pkg/__init__.py", b""),
            ("p/deep/er/b c+d%20é.txt", b"odd"),
            ("p2/a.py", b"sibling"),
            ("p.py", b"beside"),
        ],
    )
    .await;
    s3.fill_bucket(
        "markers",
        &[
            ("m/", b""),
            ("m/sub/", b""),
            ("m/sub/a", b"a"),
            ("m/empty/", b""),
        ],
    )
    .await;
    s3.fill_bucket(
        "odd",
        &[
            ("p/a//b.py", b"b"),
            ("p/./c.py", b"c"),
            ("p/d/./e.py", b"e"),
        ],
    )
    .await;
    s3.fill_bucket("hostile", &[("p/a", b"a"), ("p/../../evil", b"evil")])
        .await;
    let azure = Server::azurite().await;
    azure
        .fill_container(
            "code",
            &[
                ("p/a.py", b"a"),
                ("p/pkg/b.py", b"b"),
                ("p2/a.py", b"sibling"),
            ],
        )
        .await;
    azure
        .fill_container("alone", &[("p/a.py", b"a"), ("p/pkg/b.py", b"b")])
        .await;
    (s3, azure)
}

/// One file, by HTTP.
async fn serve_a_file() -> (tokio::task::JoinHandle<()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let routes = Router::new().route("/files/a.py", axum::routing::get(|| async { "a" }));
    let serving = async move { axum::serve(listener, routes).await.expect("it serves") };
    (tokio::spawn(serving), address)
}

/// The package `corpus-package` 1.0, as pip likes it.
fn make_wheel(directory: &Path) {
    const SCRIPT: &str = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + "/corpus_package-1.0-py3-none-any.whl", "w") as wheel:
    info = "corpus_package-1.0.dist-info/"
    wheel.writestr("corpus_package.py", "here = True\n")
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: corpus-package\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: corpus\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", "corpus_package.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n")
"#;
    fs::create_dir_all(directory).expect("a directory");
    let done = Command::new(reference("bin/python"))
        .args(["-c", SCRIPT])
        .arg(directory)
        .status();
    assert!(done.expect("Python can be started").success());
}

/// A Prefect server, with a database of its own. The process is the server itself, so that it ends with its handle.
async fn prefect(root: &Path) -> (tokio::process::Child, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener
        .local_addr()
        .expect("an address")
        .port()
        .to_string();
    drop(listener);
    let home = root.join("prefect-server");
    fs::create_dir_all(&home).expect("a directory");
    let log = fs::File::create(home.join("log")).expect("a file");
    let server = tokio::process::Command::new(reference("bin/python"))
        .args([
            "-m",
            "uvicorn",
            "--factory",
            "prefect.server.api.server:create_app",
        ])
        .args(["--host", "127.0.0.1", "--port", &port])
        .env_clear()
        .env("PATH", std::env::var("PATH").expect("a PATH"))
        .env("HOME", &home)
        .env("PREFECT_HOME", &home)
        .env("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        .env("DO_NOT_TRACK", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a handle"))
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("the server can be started");
    let api = format!("http://127.0.0.1:{port}/api");
    let up = async {
        // The types of the integrations' blocks are registered after the server has begun to answer.
        let asked = format!("{api}/block_types/slug/remote-file-system");
        let last = format!("{api}/block_types/slug/s3-bucket");
        for url in [asked, last] {
            loop {
                let answer = plain_client().get(&url).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    let up = tokio::time::timeout(Duration::from_mins(5), up).await;
    let log = || fs::read_to_string(home.join("log")).unwrap_or_default();
    assert!(up.is_ok(), "the Prefect server is not up: {}", log());
    (server, api)
}
