//! git's own HTTP server, `git http-backend`, behind a front that can ask for credentials, fail, stall, break off and point elsewhere.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, rustls, server::TlsStream};

/// What the front does to requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Front {
    /// The only user and password that are let in.
    pub(crate) asks_for: Option<(String, String)>,
    /// So many requests are answered with 503 first.
    pub(crate) fails: usize,
    /// Everything is somewhere else.
    pub(crate) redirects_to: Option<String>,
    /// Packs end after so many bytes, as if the server had died.
    pub(crate) breaks_off_after: Option<usize>,
    /// Packs pause for ever after so many bytes.
    pub(crate) stalls_after: Option<usize>,
    /// The files in Git LFS, by their hashes, and the server that has them if it is another one.
    pub(crate) lfs: std::collections::BTreeMap<String, Vec<u8>>,
    pub(crate) lfs_at: Option<String>,
    /// So many packs are spoiled like that; all when there is no number.
    pub(crate) spoils: Option<usize>,
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Option<PathBuf>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    root: PathBuf,
    front: Mutex<Front>,
    seen: Mutex<Vec<Seen>>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
}

// === impl Server ===

impl Server {
    /// Serves the repositories below `root` over plain HTTP.
    pub(crate) async fn start(root: &Path, front: Front) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (router, shared) = router(root, front);
        let task = tokio::task::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            certificate: None,
            shared,
            task,
        }
    }

    /// The same over TLS, with a certificate of its own.
    pub(crate) async fn start_tls(root: &Path, front: Front) -> Self {
        let directory = root.parent().unwrap();
        let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-out")
            .arg(&certificate)
            .arg("-keyout")
            .arg(&key)
            .output()
            .expect("openssl is installed");
        assert!(made.status.success(), "{made:?}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (router, shared) = router(root, front);
        let listener = Tls {
            listener,
            acceptor: acceptor(&certificate, &key),
        };
        let task = tokio::task::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            certificate: Some(certificate),
            shared,
            task,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.certificate.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://localhost:{}/{path}", self.address.port())
    }

    /// What has been asked since this was last called.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }

    pub(crate) fn front(&self, change: impl FnOnce(&mut Front)) {
        change(&mut self.shared.front.lock().unwrap());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

// === functions ===

fn acceptor(certificate: &Path, key: &Path) -> TlsAcceptor {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(certificate).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn router(root: &Path, front: Front) -> (Router, Arc<Shared>) {
    let shared = Arc::new(Shared {
        root: root.to_owned(),
        front: Mutex::new(front),
        seen: Mutex::default(),
    });
    let router = Router::new()
        .fallback(answer)
        .with_state(Arc::clone(&shared));
    (router, shared)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let text = |name| {
        let value: Option<&header::HeaderValue> = parts.headers.get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let authorization = text(header::AUTHORIZATION);
    shared.seen.lock().unwrap().push(Seen {
        path: parts.uri.path().to_owned(),
        authorization: authorization.clone(),
    });
    let front = {
        let mut front = shared.front.lock().unwrap();
        let now = front.clone();
        front.fails = front.fails.saturating_sub(1);
        now
    };
    if front.fails > 0 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if let Some(base) = front.redirects_to {
        let to = format!("{base}{}", parts.uri);
        return (StatusCode::FOUND, [(header::LOCATION, to)]).into_response();
    }
    let wanted = front
        .asks_for
        .map(|(user, password)| basic(&user, &password));
    if wanted.is_some() && authorization != wanted {
        let asks = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
        return (StatusCode::UNAUTHORIZED, asks).into_response();
    }
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let host = text(header::HOST).unwrap_or_default();
    if parts.uri.path().ends_with("/info/lfs/objects/batch") {
        let base = front.lfs_at.unwrap_or_else(|| format!("http://{host}"));
        return batch(&front.lfs, &base, &body);
    }
    if let Some(oid) = parts.uri.path().strip_prefix("/lfs/") {
        return front.lfs[oid].clone().into_response();
    }
    let root = shared.root.clone();
    let method = parts.method.to_string();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let path = parts.uri.path().to_owned();
    let is_pack = path.ends_with("/git-upload-pack");
    let kind = text(header::CONTENT_TYPE).unwrap_or_default();
    let asked = Asked {
        method,
        path,
        query,
        kind,
    };
    let (status, headers, body) =
        tokio::task::spawn_blocking(move || backend(&root, &asked, &body))
            .await
            .unwrap();
    let spoil = front.breaks_off_after.or(front.stalls_after);
    let body = match spoil.filter(|after| is_pack && body.len() > *after && take_one(&shared)) {
        Some(after) => spoiled(body, after, front.stalls_after.is_some()),
        None => Body::from(body),
    };
    (status, headers, body).into_response()
}

/// Answers as a server of Git LFS does.
fn batch(files: &std::collections::BTreeMap<String, Vec<u8>>, base: &str, body: &[u8]) -> Response {
    if files.is_empty() {
        return StatusCode::NOT_FOUND.into_response();
    }
    let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
    let objects = asked["objects"].as_array().unwrap().iter().map(|object| {
        let oid = object["oid"].as_str().unwrap();
        if files.contains_key(oid) {
            let download = serde_json::json!({"href": format!("{base}/lfs/{oid}")});
            serde_json::json!({"oid": oid, "actions": {"download": download}})
        } else {
            let error = serde_json::json!({"code": 404, "message": "Object does not exist"});
            serde_json::json!({"oid": oid, "error": error})
        }
    });
    let objects: Vec<_> = objects.collect();
    let answer = serde_json::json!({"transfer": "basic", "objects": objects});
    answer.to_string().into_response()
}

struct Asked {
    method: String,
    path: String,
    query: String,
    kind: String,
}

/// Runs `git http-backend` as a web server would.
fn backend(root: &Path, asked: &Asked, body: &[u8]) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut child = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &asked.method)
        .env("PATH_INFO", &asked.path)
        .env("QUERY_STRING", &asked.query)
        .env("CONTENT_TYPE", &asked.kind)
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("git is installed");
    let mut stdin = child.stdin.take().unwrap();
    let body = body.to_vec();
    let writer = std::thread::spawn(move || {
        drop(std::io::Write::write_all(&mut stdin, &body));
    });
    let output = child.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("http-backend answers with headers");
    let mut status = StatusCode::OK;
    let mut headers = HeaderMap::new();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name == "Status" {
            status = value[..3].parse().unwrap();
        } else {
            let name: header::HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
    }
    (status, headers, output[end + 4..].to_vec())
}

fn take_one(shared: &Shared) -> bool {
    match &mut shared.front.lock().unwrap().spoils {
        None => true,
        Some(0) => false,
        Some(left) => {
            *left -= 1;
            true
        }
    }
}

fn spoiled(mut body: Vec<u8>, after: usize, stalls: bool) -> Body {
    body.truncate(after);
    let start = futures::stream::iter([Ok(Bytes::from(body))]);
    if stalls {
        return Body::from_stream(start.chain(futures::stream::pending()));
    }
    let end = futures::stream::iter([Err(std::io::Error::other("the server died"))]);
    Body::from_stream(start.chain(end))
}

/// The header that a user and a password become.
pub(crate) fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;

    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {encoded}")
}
