//! What is asked of one repository: which commit a name means, and its objects, in a mirror.

use git2::{AutotagOption, Direction, FetchOptions, Oid, Remote, RemoteCallbacks, Repository};

use super::{GitError, Reference, context::Context, progress::Meter, transport};

/// What a name means on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The commit, after peeling.
    pub(super) commit: Oid,
    /// What has to be asked for: a reference that is at the commit, or the commit itself, which not all servers give.
    source: String,
    /// How it is called.
    pub(super) name: Name,
}

/// How what is wanted is called in the clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Branch(String),
    Tag(String),
    Commit,
}

/// What a look at the server gave.
pub(super) enum Looked {
    Found(Wanted),
    /// A commit by less than its whole id that no branch and no tag is at: only the history knows.
    OnlyInHistory,
}

/// Where a mirror keeps what it has fetched: a reference here says that all of the commit's files are there.
const KEPT: &str = "refs/pulled/";

/// The refspecs of a whole history.
const EVERYTHING: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/// One server, connected to.
pub(super) struct Server<'a> {
    context: &'a Context,
    remote: Remote<'a>,
}

// === impl Server ===

impl<'a> Server<'a> {
    /// Connects and hears what there is.
    pub(super) fn connect(context: &'a Context, mirror: &'a Repository) -> Result<Self, GitError> {
        let url = transport::url(&context.address);
        let mut remote = mirror
            .remote_anonymous(&url)
            .map_err(|source| context.failed("name", Some(source)))?;
        remote
            .connect(Direction::Fetch)
            .map_err(|source| context.failed("reach", Some(source)))?;
        Ok(Self { context, remote })
    }

    /// Which commit is meant.
    pub(super) fn look_up(&self, reference: &Reference) -> Result<Looked, GitError> {
        let context = self.context;
        let heads = self
            .remote
            .list()
            .map_err(|source| context.failed("list", Some(source)))?;
        let at = |name: &str| {
            let found = heads.iter().find(|head| head.name() == name);
            found.map(git2::RemoteHead::oid)
        };
        let branch = |name: &str| {
            let source = format!("refs/heads/{name}");
            let commit = at(&source)?;
            let name = Name::Branch(name.to_owned());
            Some(Wanted {
                commit,
                source,
                name,
            })
        };
        let tag = |name: &str| {
            let source = format!("refs/tags/{name}");
            let object = at(&source)?;
            let commit = at(&format!("{source}^{{}}")).unwrap_or(object);
            let name = Name::Tag(name.to_owned());
            Some(Wanted {
                commit,
                source,
                name,
            })
        };
        let at_tip = |commit: Oid| {
            let mut wanted = Wanted::commit(commit);
            if let Some(head) = heads.iter().find(|head| head.oid() == commit) {
                head.name()
                    .trim_end_matches("^{}")
                    .clone_into(&mut wanted.source);
            }
            wanted
        };
        let found = match reference {
            Reference::Default => {
                let target = heads
                    .iter()
                    .find(|head| head.name() == "HEAD")
                    .and_then(|head| head.symref_target());
                let named = target.and_then(|name| branch(name.strip_prefix("refs/heads/")?));
                // A server that is old, or whose HEAD is at no branch, tells only the commit.
                named.or_else(|| at("HEAD").map(at_tip))
            }
            Reference::Named(name) => branch(name).or_else(|| tag(name)),
            Reference::Commit(id) if id.len() == 40 => {
                let commit = Oid::from_str(id).ok();
                commit.map(at_tip)
            }
            Reference::Commit(id) => {
                let mut fitting: Vec<Oid> = heads
                    .iter()
                    .map(git2::RemoteHead::oid)
                    .filter(|oid| oid.to_string().starts_with(&id.to_ascii_lowercase()))
                    .collect();
                fitting.sort();
                fitting.dedup();
                match fitting.as_slice() {
                    [only] => Some(at_tip(*only)),
                    _ => return Ok(Looked::OnlyInHistory),
                }
            }
        };
        found
            .map(Looked::Found)
            .ok_or_else(|| context.no_reference(reference))
    }

    /// Fetches one commit without its history. False: the server gives only what it shows, and this is not among it.
    pub(super) fn fetch(&mut self, wanted: &Wanted) -> Result<bool, GitError> {
        let spec = format!("+{}:{}", wanted.source, kept(wanted.commit));
        match self.fetch_specs(&[&spec], Some(1)) {
            Err(error) if is_hidden(&error) => {
                self.context.take_failure();
                Ok(false)
            }
            Err(source) => Err(self.context.failed("fetch", Some(source))),
            Ok(()) => Ok(true),
        }
    }

    /// Fetches everything there is.
    pub(super) fn fetch_history(&mut self) -> Result<(), GitError> {
        self.fetch_specs(&EVERYTHING, None)
            .map_err(|source| self.context.failed("fetch", Some(source)))
    }

    fn fetch_specs(&mut self, specs: &[&str], depth: Option<i32>) -> Result<(), git2::Error> {
        let mut options = FetchOptions::new();
        options
            .download_tags(AutotagOption::None)
            .update_fetchhead(false)
            .remote_callbacks(callbacks(self.context));
        if let Some(depth) = depth {
            options.depth(depth);
        }
        self.remote.fetch(specs, Some(&mut options), None)
    }
}

// === impl Wanted ===

impl Wanted {
    pub(super) fn commit(commit: Oid) -> Self {
        Self {
            commit,
            source: commit.to_string(),
            name: Name::Commit,
        }
    }
}

// === functions ===

/// Opens a mirror, and makes it where there is none. What is there and is no repository is an error of libgit2.
pub(super) fn open(path: &std::path::Path) -> Result<Repository, git2::Error> {
    if path.exists() {
        return Repository::open_bare(path);
    }
    let mut options = git2::RepositoryInitOptions::new();
    options.bare(true).external_template(false);
    Repository::init_opts(path, &options)
}

/// Whether a mirror has all files of a commit.
pub(super) fn has(mirror: &Repository, commit: Oid) -> bool {
    mirror.find_reference(&kept(commit)).is_ok() && mirror.find_commit(commit).is_ok()
}

/// Finds a commit in a whole history, by its id or the beginning of it.
pub(super) fn find_in_history(
    context: &Context,
    history: &Repository,
    id: &str,
) -> Result<Oid, GitError> {
    let reference = || Reference::Commit(id.to_owned());
    match history.find_commit_by_prefix(id) {
        Ok(commit) => Ok(commit.id()),
        Err(error) if error.code() == git2::ErrorCode::Ambiguous => Err(GitError::Ambiguous {
            repository: context.address.to_string(),
            name: id.to_owned(),
        }),
        Err(_) => Err(context.no_reference(&reference())),
    }
}

fn kept(commit: Oid) -> String {
    format!("{KEPT}{commit}")
}

fn callbacks(context: &Context) -> RemoteCallbacks<'_> {
    let mut meter = Meter::new(context);
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(move |progress| meter.see(&progress));
    callbacks
}

/// Whether a server said that it does not give a commit because no branch or tag is at it. There is no code for that.
fn is_hidden(error: &git2::Error) -> bool {
    let said = error.message();
    [
        "not our ref",
        "unadvertised object",
        "fetch a specific object",
    ]
    .iter()
    .any(|words| said.contains(words))
}
