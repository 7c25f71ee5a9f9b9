//! Code from git repositories, through libgit2: a mirror per repository that all pulls share, and a clone of one commit for each.
//!
//! Each fetch asks the server first, with credentials of its own, what a name means now; only what the mirror lacks is transferred.
//! Credentials are in memory for as long as a fetch takes, and go to the host they were given for. HTTP goes over the TLS that the rest of the program
//! has, ssh over the OpenSSH program with the keys, the agent and the known hosts of the user that this runs as.

mod address;
mod cache;
mod client;
mod cone;
mod context;
mod credentials;
mod duplex;
mod error;
mod export;
mod http;
mod lfs;
mod mirror;
mod progress;
mod submodules;
mod transport;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use git2::Repository;
use tokio::{runtime::Handle, time::Instant};

pub use self::{
    address::{Address, AddressError},
    cache::Bounds,
    client::BuildError,
    credentials::{Credentials, CredentialsError},
    error::GitError,
};
use self::{
    cache::{Cache, Slot},
    context::Context,
    export::Export,
    lfs::{Lfs, Pointer},
    mirror::{Looked, Name, Server, Wanted},
};
use crate::{Operation, Retry};

/// What fetches repositories. Cheap to clone; clones share connections and mirrors.
#[derive(Clone, Debug)]
pub struct Git {
    cache: Cache,
    client: Arc<OnceLock<reqwest::Client>>,
    ssh: Arc<[String]>,
    patience: Patience,
    lfs: bool,
}

/// What [`Git`] is made from.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where mirrors are. Processes may share it.
    pub cache: PathBuf,
    /// How large and how old mirrors may get.
    pub bounds: Bounds,
    /// How long a fetch may take.
    pub patience: Patience,
    /// Certificates to trust in place of the system's, as a PEM file.
    pub certificates: Option<PathBuf>,
    /// The program that is `ssh`, and what it is always given.
    pub ssh: Vec<String>,
    /// Whether files in Git LFS are fetched; else their pointers stay in their places.
    pub lfs: bool,
}

/// How long a fetch may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Without a byte from the server.
    pub stall: Duration,
    /// In all, retries and submodules included.
    pub whole: Duration,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Where from.
    pub repository: Address,
    /// Which commit of it.
    pub reference: Reference,
    /// What the server may want to see. A server that wants nothing is not shown it.
    pub credentials: Option<Credentials>,
    /// Whether to fetch submodules, and theirs.
    pub submodules: bool,
    /// The directories to write, as git's cone mode has them; all when there are none.
    pub directories: Vec<String>,
}

/// Which commit of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The one that the repository's own head is at.
    Default,
    /// A branch, else a tag.
    Named(String),
    /// A commit by its id, or by the beginning of it, at least four digits.
    Commit(String),
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The commit that is checked out, as a full id.
    pub commit: String,
    /// Whether the mirror had it, so that nothing was transferred.
    pub cached: bool,
    /// How many submodules came with it.
    pub submodules: usize,
}

/// One fetch of one repository, the submodules aside.
struct Fetch<'a> {
    git: &'a Git,
    context: Arc<Context>,
    reference: &'a Reference,
    directories: &'a [String],
    into: &'a Path,
}

/// A repository that never ends is cut short here; real ones have a handful.
const MOST_SUBMODULES: usize = 500;
const DEEPEST_SUBMODULE: usize = 10;

/// With the delays between the tries, a server may be gone for several seconds.
const RETRY: Retry = Retry {
    attempts: 4,
    first_delay: Duration::from_millis(500),
    max_delay: Duration::from_mins(1),
};

// === impl Git ===

impl Git {
    /// Makes what fetches repositories. Those of the system's certificates that it may need are read when it first fetches.
    ///
    /// # Errors
    /// [`BuildError`], when the certificates that were named cannot be used.
    pub fn new(options: Options) -> Result<Self, BuildError> {
        let Options {
            cache,
            bounds,
            patience,
            certificates,
            ssh,
            lfs,
        } = options;
        let client = match certificates {
            Some(certificates) => OnceLock::from(client::build(Some(&certificates))?),
            None => OnceLock::new(),
        };
        Ok(Self {
            cache: Cache::new(cache, bounds),
            client: Arc::new(client),
            ssh: ssh.into(),
            patience,
            lfs,
        })
    }

    /// Clones a repository into a directory. One that is there already is replaced if it is a clone of the same repository, or empty.
    ///
    /// # Errors
    /// [`GitError`]; the directory is then as it was.
    ///
    /// # Cancellation
    /// Dropping the future ends the fetch soon after; cancelling the operation ends it before the future does.
    pub async fn fetch(
        &self,
        operation: &Operation,
        request: Request,
        into: &Path,
    ) -> Result<Fetched, GitError> {
        let cancelled = operation.cancelled.child_token();
        let _cancels_when_dropped = cancelled.clone().drop_guard();
        let operation = Operation {
            cancelled,
            progress: Arc::clone(&operation.progress),
        };
        let (git, into) = (self.clone(), into.to_owned());
        let runtime = Handle::current();
        let fetched = tokio::task::spawn_blocking(move || {
            git.fetch_with_submodules(&operation, &request, &into, &runtime)
        });
        match fetched
            .await
            .map_err(tokio::task::JoinError::try_into_panic)
        {
            Ok(fetched) => fetched,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // Blocking work is dropped only with its runtime, and then this is too.
            Err(Err(_)) => Err(GitError::Interrupted(crate::Interrupted)),
        }
    }

    fn connections(&self, repository: &Address) -> Result<&reqwest::Client, GitError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = client::build(None).map_err(|error| GitError::Refused {
            repository: repository.to_string(),
            reason: error.to_string(),
        })?;
        Ok(self.client.get_or_init(|| client))
    }

    fn fetch_with_submodules(
        &self,
        operation: &Operation,
        request: &Request,
        into: &Path,
        runtime: &Handle,
    ) -> Result<Fetched, GitError> {
        let Request {
            repository,
            reference,
            credentials,
            submodules,
            directories,
        } = request;
        let http = self.connections(repository)?;
        let deadline = Instant::now() + self.patience.whole;
        let fetch = |address: &Address, reference: &Reference, dirs: &[String], into: &Path| {
            let ours = address == repository || address.shares_host(repository);
            let context = Arc::new(Context {
                address: address.clone(),
                credentials: credentials.clone().filter(|_| ours),
                http: http.clone(),
                ssh: Arc::clone(&self.ssh),
                operation: operation.clone(),
                stall: self.patience.stall,
                limit: self.patience.whole,
                deadline,
                runtime: runtime.clone(),
                failure: Mutex::default(),
            });
            let fetch = Fetch {
                git: self,
                context: Arc::clone(&context),
                reference,
                directories: dirs,
                into,
            };
            context.during(|| fetch.patiently())
        };
        check_free(repository, into)?;
        let mut fetched = None;
        export::put(into, |making| {
            let mut top = fetch(repository, reference, directories, making)?;
            let mut open = vec![(repository.clone(), making.to_owned(), 1)];
            while let Some((address, parent, depth)) = open.pop().filter(|_| *submodules) {
                let clone = Repository::open(&parent).map_err(|source| GitError::Failed {
                    doing: "open",
                    repository: address.to_string(),
                    source,
                })?;
                let dirs: &[String] = if depth == 1 { directories } else { &[] };
                for submodule in submodules::of(&clone, &address, dirs)? {
                    top.submodules += 1;
                    if top.submodules > MOST_SUBMODULES || depth > DEEPEST_SUBMODULE {
                        return Err(GitError::TooManySubmodules {
                            repository: repository.to_string(),
                            most: MOST_SUBMODULES,
                            deepest: DEEPEST_SUBMODULE,
                        });
                    }
                    let place = parent.join(&submodule.path);
                    let commit = Reference::Commit(submodule.commit.to_string());
                    fetch(&submodule.address, &commit, &[], &place)?;
                    open.push((submodule.address, place, depth + 1));
                }
            }
            fetched = Some(top);
            Ok(())
        })?;
        Ok(fetched.expect("what was put was fetched"))
    }
}

// === impl Fetch ===

impl Fetch<'_> {
    /// Tries until it works, cannot work, or was tried often enough.
    fn patiently(&self) -> Result<Fetched, GitError> {
        let mut delays = RETRY.delays();
        let mut tries = 1;
        loop {
            let error = match self.once() {
                Err(error) if error.may_pass() => error,
                settled => return settled,
            };
            if tries == RETRY.attempts {
                return Err(error);
            }
            tries += 1;
            (self.context.operation.progress)(format!("{error}; trying again"));
            let waited = self
                .context
                .wait("waiting to try again", tokio::time::sleep(delays()));
            if waited.is_err() {
                return Err(self.context.failed("fetch", None));
            }
        }
    }

    fn once(&self) -> Result<Fetched, GitError> {
        cache::remove(self.into).map_err(GitError::io(self.into))?;
        if self.context.address.is_local() {
            return self.clone_locally();
        }
        transport::prepare().map_err(|source| self.context.failed("prepare for", Some(source)))?;
        let slot = self.git.cache.slot(&self.context.address, "")?;
        let first = self.through_mirror(&slot);
        let Err(GitError::Failed { source, .. }) = &first else {
            return first;
        };
        // Neither the server nor the network is at fault, so the mirror may be: half written, or damaged since.
        tracing::warn!(error = source.message(), "making a git mirror anew");
        slot.lock(&self.context, true)?;
        slot.clear()?;
        cache::remove(self.into).map_err(GitError::io(self.into))?;
        self.through_mirror(&slot).map_err(|error| match error {
            // A new mirror that is broken too was broken by what came in.
            GitError::Failed { source, .. } if source.class() != git2::ErrorClass::Checkout => {
                self.context.transient(source.message().to_owned())
            }
            error => error,
        })
    }

    fn through_mirror(&self, slot: &Slot) -> Result<Fetched, GitError> {
        let context = &*self.context;
        let opened = |source| context.failed("open the mirror of", Some(source));
        if !slot.path.exists() {
            slot.lock(context, true)?;
            mirror::open(&slot.path).map_err(opened)?;
        }
        slot.lock(context, false)?;
        let mirror = mirror::open(&slot.path).map_err(opened)?;
        let mut server = Server::connect(context, &mirror)?;
        let wanted = match server.look_up(self.reference)? {
            Looked::Found(wanted) => wanted,
            Looked::OnlyInHistory => return self.through_history(),
        };
        let mut cached = mirror::has(&mirror, wanted.commit);
        if !cached {
            slot.lock(context, true)?;
            cached = mirror::has(&mirror, wanted.commit);
            if !cached && !server.fetch(&wanted)? {
                return self.through_history();
            }
            slot.lock(context, false)?;
        }
        drop(server);
        self.export(&mirror, &wanted, cached)
    }

    /// For a commit that the server does not give by itself, or that only the history can name: all of it, in a mirror of its own.
    fn through_history(&self) -> Result<Fetched, GitError> {
        let context = &*self.context;
        let Reference::Commit(id) = self.reference else {
            return Err(context.no_reference(self.reference));
        };
        let slot = self.git.cache.slot(&context.address, "-history")?;
        slot.lock(context, true)?;
        let opened = mirror::open(&slot.path).or_else(|_broken| {
            cache::remove(&slot.path).map_err(|e| git2::Error::from_str(&e.to_string()))?;
            mirror::open(&slot.path)
        });
        let history =
            opened.map_err(|source| context.failed("open the mirror of", Some(source)))?;
        let known = mirror::find_in_history(context, &history, id);
        let cached = known.is_ok();
        let commit = if let Ok(commit) = known {
            commit
        } else {
            let fetched =
                Server::connect(context, &history).and_then(|mut server| server.fetch_history());
            if let Err(GitError::Failed { .. }) = &fetched {
                slot.clear()?;
            }
            fetched?;
            mirror::find_in_history(context, &history, id)?
        };
        self.export(&history, &Wanted::commit(commit), cached)
    }

    /// A repository on this machine is its own mirror.
    fn clone_locally(&self) -> Result<Fetched, GitError> {
        let context = &*self.context;
        let address::Place::Local(path) = &context.address.place else {
            return Err(context.no_reference(self.reference));
        };
        let opened = Repository::open_ext(
            path,
            git2::RepositoryOpenFlags::NO_SEARCH,
            std::iter::empty::<&Path>(),
        );
        let source = opened.map_err(|source| match source.code() {
            git2::ErrorCode::NotFound => GitError::NoRepository {
                repository: context.address.to_string(),
            },
            _ => context.failed("open", Some(source)),
        })?;
        let wanted = find_locally(context, &source, self.reference)?;
        self.export(&source, &wanted, false)
    }

    fn export(
        &self,
        source: &Repository,
        wanted: &Wanted,
        cached: bool,
    ) -> Result<Fetched, GitError> {
        let export = Export {
            context: &self.context,
            source,
            wanted,
            directories: self.directories,
        };
        export.make(self.into)?;
        self.fill_pointers(source)?;
        if !cached && !self.context.address.is_local() {
            self.git.cache.sweep();
        }
        Ok(Fetched {
            commit: wanted.commit.to_string(),
            cached,
            submodules: 0,
        })
    }
}

// === Git LFS ===

impl Fetch<'_> {
    /// Puts files in the places of pointers to them.
    fn fill_pointers(&self, source: &Repository) -> Result<(), GitError> {
        let context = &self.context;
        let clone = Repository::open(self.into);
        let pointers = clone.and_then(|clone| Pointer::find_in(&clone));
        let pointers =
            pointers.map_err(|source| context.failed("look for Git LFS in", Some(source)))?;
        if pointers.is_empty() {
            return Ok(());
        }
        if !self.git.lfs {
            let count = pointers.len();
            let line = format!("{count} files of {} are left in Git LFS", context.address);
            (context.operation.progress)(line);
            return Ok(());
        }
        let slot = self.git.cache.slot(&context.address, "-lfs")?;
        slot.lock(context, true)?;
        let kept = slot.path.join("lfs");
        let lfs = Lfs {
            context,
            clone: self.into,
            kept: &kept,
        };
        lfs.fill(&pointers, source)
    }
}

// === functions ===

/// What is at the place of a clone may be replaced only by its like.
fn check_free(repository: &Address, into: &Path) -> Result<(), GitError> {
    let taken = || GitError::Taken {
        repository: repository.to_string(),
        path: into.to_owned(),
    };
    let Ok(there) = into.symlink_metadata() else {
        return Ok(());
    };
    if !there.is_dir() {
        return Err(taken());
    }
    let mut entries = fs::read_dir(into).map_err(GitError::io(into))?;
    if entries.next().is_none() {
        return Ok(());
    }
    let clone = Repository::open_ext(
        into,
        git2::RepositoryOpenFlags::NO_SEARCH,
        std::iter::empty::<&Path>(),
    );
    let same = clone.is_ok_and(|clone| {
        clone
            .find_remote("origin")
            .is_ok_and(|origin| origin.url().is_ok_and(|url| url == repository.to_string()))
    });
    if same { Ok(()) } else { Err(taken()) }
}

fn find_locally(
    context: &Context,
    source: &Repository,
    reference: &Reference,
) -> Result<Wanted, GitError> {
    let peeled = |name: &str| {
        let object = source.revparse_single(name).ok()?;
        object.peel_to_commit().ok().map(|commit| commit.id())
    };
    let found = match reference {
        Reference::Default => source.head().ok().and_then(|head| {
            let mut wanted = Wanted::commit(head.peel_to_commit().ok()?.id());
            if head.is_branch() {
                wanted.name = Name::Branch(head.shorthand().ok()?.to_owned());
            }
            Some(wanted)
        }),
        Reference::Named(name) => {
            let named = |place: &str, name: Name| {
                let mut wanted = Wanted::commit(peeled(place)?);
                wanted.name = name;
                Some(wanted)
            };
            named(&format!("refs/heads/{name}"), Name::Branch(name.clone()))
                .or_else(|| named(&format!("refs/tags/{name}"), Name::Tag(name.clone())))
        }
        Reference::Commit(id) => {
            let commit = mirror::find_in_history(context, source, id)?;
            Some(Wanted::commit(commit))
        }
    };
    found.ok_or_else(|| context.no_reference(reference))
}

// === impl Patience ===

impl Default for Patience {
    /// A minute of silence is more than a server needs to count its objects; half an hour is more than what is large needs on a slow line.
    fn default() -> Self {
        Self {
            stall: Duration::from_mins(1),
            whole: Duration::from_mins(30),
        }
    }
}
