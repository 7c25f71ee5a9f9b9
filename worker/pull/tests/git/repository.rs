//! A repository made on the spot, and what fetches from it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;
use worker_pull::{
    Operation,
    git::{
        Address, Bounds, Credentials, Fetched, Git, GitError, Options, Patience, Reference, Request,
    },
};

/// How long anything may take that a test waits for.
const BOUND: Duration = Duration::from_secs(30);

/// Waits until something is so, within a bound.
pub(crate) async fn until(is_so: impl Fn() -> bool) -> Result<(), Elapsed> {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, waiting).await
}

/// A directory of repositories, a place for clones, and a cache.
pub(crate) struct Scene {
    pub(crate) root: TempDir,
    pub(crate) patience: Patience,
    pub(crate) bounds: Bounds,
    pub(crate) certificates: Option<PathBuf>,
    pub(crate) ssh: Vec<String>,
    pub(crate) lfs: bool,
    pub(crate) operation: Operation,
    pub(crate) said: Arc<Mutex<Vec<String>>>,
}

/// A repository with a work tree.
pub(crate) struct Repository {
    pub(crate) path: PathBuf,
}

// === impl Scene ===

impl Scene {
    pub(crate) fn new() -> Self {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        Self {
            root: tempfile::tempdir().unwrap(),
            patience: Patience {
                stall: Duration::from_secs(20),
                whole: Duration::from_mins(2),
            },
            bounds: Bounds::default(),
            certificates: None,
            ssh: vec!["ssh".to_owned()],
            lfs: true,
            operation: Operation {
                cancelled: CancellationToken::new(),
                progress: Arc::new(move |line| heard.lock().unwrap().push(line)),
            },
            said,
        }
    }

    pub(crate) fn repositories(&self) -> PathBuf {
        self.root.path().join("repositories")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    pub(crate) fn clone_at(&self, name: &str) -> PathBuf {
        let clones = self.root.path().join("clones");
        fs::create_dir_all(&clones).unwrap();
        clones.join(name)
    }

    pub(crate) fn git(&self) -> Git {
        Git::new(Options {
            cache: self.cache(),
            bounds: self.bounds,
            patience: self.patience,
            certificates: self.certificates.clone(),
            ssh: self.ssh.clone(),
            lfs: self.lfs,
        })
        .unwrap()
    }

    pub(crate) async fn fetch(&self, request: Request, name: &str) -> Result<Fetched, GitError> {
        let into = self.clone_at(name);
        self.git().fetch(&self.operation, request, &into).await
    }

    /// The repository `code.git`: two commits on `main`, a branch `feature/x`, an annotated tag `v1`.
    pub(crate) fn code(&self) -> Repository {
        let repository = Repository::create(&self.repositories().join("code.git"));
        repository.write("flow.py", "print('first')\n");
        repository.write("deep/er/one.txt", "1\n");
        repository.write("deep/side.txt", "side\n");
        repository.write("other/two.txt", "2\n");
        repository.commit("first");
        repository.git(&["tag", "--annotate", "v1", "--message", "one"]);
        repository.write("flow.py", "print('second')\n");
        repository.commit("second");
        repository.git(&["checkout", "--quiet", "-b", "feature/x"]);
        repository.write("flow.py", "print('feature')\n");
        repository.commit("third");
        repository.git(&["checkout", "--quiet", "main"]);
        repository
    }
}

// === impl Repository ===

impl Repository {
    pub(crate) fn create(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        let repository = Self {
            path: path.to_owned(),
        };
        repository.git(&["init", "--quiet", "--initial-branch", "main"]);
        repository
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn id(&self, name: &str) -> String {
        self.git(&["rev-parse", &format!("{name}^{{commit}}")])
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.path, arguments)
    }
}

// === functions ===

/// Runs git, untouched by the settings of whoever runs the tests.
pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .args(["-c", "user.name=Test", "-c", "user.email=test@localhost"])
        .args(["-c", "protocol.file.allow=always", "-c", "safe.directory=*"])
        .args(arguments)
        .output()
        .expect("git is installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn request(address: &str, reference: Reference) -> Request {
    let (repository, credentials) = Address::parse(address, Path::new("/")).unwrap();
    Request {
        repository,
        reference,
        credentials,
        submodules: false,
        directories: Vec::new(),
    }
}

pub(crate) fn with_token(mut request: Request, token: &str) -> Request {
    let credentials = Credentials::from_inputs("localhost", Some(token), None, None);
    request.credentials = credentials.unwrap();
    request
}

pub(crate) fn named(name: &str) -> Reference {
    Reference::Named(name.to_owned())
}

pub(crate) fn commit(id: &str) -> Reference {
    Reference::Commit(id.to_owned())
}

/// Every file below a directory but git's own, with its text.
pub(crate) fn files(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().is_some_and(|name| name == ".git") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_string_lossy();
            found.push((name.into_owned(), fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

pub(crate) fn names(root: &Path) -> Vec<String> {
    files(root).into_iter().map(|(name, _)| name).collect()
}
