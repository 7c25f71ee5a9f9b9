//! Files that a repository keeps in Git LFS: a commit has only pointers to them, which are no use to a flow. They are fetched by LFS' own protocol
//! and put in the pointers' places, as git does where git-lfs is installed; git without it leaves pointers, and says nothing.
//!
//! What was fetched is kept beside the mirror, by its hash, and a hash that does not fit is refused.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use git2::{AttrCheckFlags, Repository};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use ring::digest;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{
    GitError,
    address::{self, Place},
    context::Context,
    duplex::Duplex,
    error::Failure,
};

/// A pointer is smaller than this, by its specification.
const LONGEST_POINTER: usize = 1024;

/// Objects that are asked for at once, as many as git-lfs asks for.
const BATCH: usize = 100;

/// The longest answer that is read about a batch of objects, in bytes: a few hundred each, and a batch is bounded.
const LONGEST_ANSWER: usize = 4 << 20;

/// How much of a server's reason is passed on, in characters.
const LONGEST_MESSAGE: usize = 500;

/// How many times an object may be somewhere else.
const MOST_REDIRECTS: usize = 5;

/// What the answer to `git-lfs-authenticate` may have in bytes.
const LONGEST_LEAVE: u64 = 64 * 1024;

const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// A file whose content is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    /// Where it stands in the clone.
    path: PathBuf,
    /// The SHA-256 of its content, in hexadecimal digits.
    oid: String,
    size: u64,
}

/// What fetches the files of one clone.
pub(super) struct Lfs<'a> {
    pub(super) context: &'a Arc<Context>,
    /// The clone.
    pub(super) clone: &'a Path,
    /// Where fetched files are kept.
    pub(super) kept: &'a Path,
}

/// Where to ask, and what to show.
struct Endpoint {
    url: Url,
    headers: BTreeMap<String, String>,
}

/// What a server answers, or `git-lfs-authenticate`.
#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: BTreeMap<String, Action>,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct ObjectError {
    code: i64,
    #[serde(default)]
    message: String,
}

// === impl Pointer ===

impl Pointer {
    /// Every pointer that is checked out and that the repository's attributes call one.
    pub(super) fn find_in(clone: &Repository) -> Result<Vec<Self>, git2::Error> {
        let index = clone.index()?;
        let Some(root) = clone.workdir() else {
            return Ok(Vec::new());
        };
        let says_so = index.iter().any(|entry| {
            let attributes = entry.path.ends_with(b".gitattributes");
            attributes
                && clone
                    .find_blob(entry.id)
                    .is_ok_and(|blob| blob.content().windows(10).any(|w| w == b"filter=lfs"))
        });
        if !says_so {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in index.iter() {
            let path = PathBuf::from(OsStr::from_bytes(&entry.path));
            let filter = clone.get_attr(&path, "filter", AttrCheckFlags::FILE_THEN_INDEX)?;
            // Neither a link, nor a submodule, nor what a sparse clone leaves out.
            let is_file = fs::symlink_metadata(root.join(&path))
                .is_ok_and(|file| file.is_file() && file.len() < LONGEST_POINTER as u64);
            if filter != Some("lfs") || !is_file {
                continue;
            }
            let blob = clone.find_blob(entry.id)?;
            found.extend(Self::parse(path, blob.content()));
        }
        Ok(found)
    }

    fn parse(path: PathBuf, content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?;
        let mut lines = text.lines();
        let version = lines.next()?.strip_prefix("version ")?;
        if !version.contains("git-lfs") && !version.contains("hawser") {
            return None;
        }
        let (mut oid, mut size) = (None, None);
        for line in lines {
            match line.split_once(' ')? {
                ("oid", value) => oid = value.strip_prefix("sha256:").map(str::to_owned),
                ("size", value) => size = value.parse().ok(),
                _ => {}
            }
        }
        let oid =
            oid.filter(|oid| oid.len() == 64 && oid.bytes().all(|b| b.is_ascii_hexdigit()))?;
        Some(Self {
            path,
            oid: oid.to_ascii_lowercase(),
            size: size?,
        })
    }
}

// === impl Lfs ===

impl Lfs<'_> {
    /// Puts every file in the place of its pointer. `source` is the repository that the clone was made from.
    pub(super) fn fill(&self, pointers: &[Pointer], source: &Repository) -> Result<(), GitError> {
        fs::create_dir_all(self.kept).map_err(GitError::io(self.kept))?;
        if let Place::Local(_) = &self.context.address.place {
            self.take_from(source, pointers)?;
        } else {
            let missing = pointers.iter().filter(|one| !self.kept(one).exists());
            let missing: BTreeMap<&str, &Pointer> =
                missing.map(|one| (one.oid.as_str(), one)).collect();
            let missing: Vec<&Pointer> = missing.into_values().collect();
            if !missing.is_empty() {
                let count = missing.len();
                let line = format!("fetching {count} files from Git LFS");
                (self.context.operation.progress)(line);
                self.fetch(&missing)
                    .map_err(|_kept| self.context.failed("fetch the Git LFS files of", None))?;
            }
        }
        for pointer in pointers {
            let path = self.clone.join(&pointer.path);
            let put = || {
                let mode = fs::metadata(&path)?.permissions();
                fs::remove_file(&path)?;
                fs::copy(self.kept(pointer), &path)?;
                fs::set_permissions(&path, mode)
            };
            put().map_err(GitError::io(&path))?;
        }
        Ok(())
    }

    fn kept(&self, pointer: &Pointer) -> PathBuf {
        self.kept.join(&pointer.oid)
    }

    /// A repository on this machine has the files beside its objects, if anybody has fetched them.
    fn take_from(&self, source: &Repository, pointers: &[Pointer]) -> Result<(), GitError> {
        let objects = source.commondir().join("lfs/objects");
        for pointer in pointers {
            let Pointer { path, oid, size } = pointer;
            let place = objects.join(&oid[..2]).join(&oid[2..4]).join(oid);
            if !fs::metadata(&place).is_ok_and(|file| file.len() == *size) {
                return Err(GitError::Refused {
                    repository: self.context.address.to_string(),
                    reason: format!(
                        "{} is in Git LFS, and its content is not on this machine; {ADVICE}",
                        path.display()
                    ),
                });
            }
            let kept = self.kept(pointer);
            fs::copy(&place, &kept).map_err(GitError::io(kept))?;
        }
        Ok(())
    }

    fn fetch(&self, missing: &[&Pointer]) -> io::Result<()> {
        let endpoint = self.endpoint()?;
        for some in missing.chunks(BATCH) {
            let answer = self.ask(&endpoint, some)?;
            for pointer in some {
                let object = answer.objects.iter().find(|one| one.oid == pointer.oid);
                self.fetch_one(pointer, object)?;
            }
        }
        Ok(())
    }

    fn refuse(&self, reason: String) -> io::Error {
        self.context.fail(Failure::Refused(reason))
    }

    /// Where the repository's LFS is: where it says itself, at its own address, or where ssh says.
    fn endpoint(&self) -> io::Result<Endpoint> {
        if let Some(url) = self.configured() {
            return Ok(Endpoint {
                url,
                headers: BTreeMap::new(),
            });
        }
        match &self.context.address.place {
            Place::Http(home) => {
                let mut url = home.clone();
                let path = url.path().trim_end_matches('/');
                let path = path.strip_suffix(".git").unwrap_or(path);
                let path = format!("{path}.git/info/lfs");
                url.set_path(&path);
                Ok(Endpoint {
                    url,
                    headers: BTreeMap::new(),
                })
            }
            Place::Ssh { .. } => {
                let duplex = Duplex::lfs(self.context)?;
                let mut said = Vec::new();
                duplex.take(LONGEST_LEAVE).read_to_end(&mut said)?;
                let leave: Option<Action> = serde_json::from_slice(&said).ok();
                let leave = leave.and_then(|one| Some((Url::parse(&one.href).ok()?, one.header)));
                let (url, headers) = leave.ok_or_else(|| {
                    self.refuse(format!(
                        "it has files in Git LFS, and its server does not say where; {ADVICE}"
                    ))
                })?;
                Ok(Endpoint { url, headers })
            }
            Place::Git { .. } | Place::Local(_) => Err(self.refuse(format!(
                "it has files in Git LFS, which cannot be fetched over the git protocol; {ADVICE}"
            ))),
        }
    }

    /// The address in `.lfsconfig`, which is a part of the code. It is no reason to show credentials to another host.
    fn configured(&self) -> Option<Url> {
        let file = self.clone.join(".lfsconfig");
        if !file.symlink_metadata().is_ok_and(|file| file.is_file()) {
            return None;
        }
        let config = git2::Config::open(&file).ok()?;
        let url = Url::parse(&config.get_string("lfs.url").ok()?).ok()?;
        matches!(url.scheme(), "http" | "https").then_some(url)
    }

    fn ask(&self, endpoint: &Endpoint, some: &[&Pointer]) -> io::Result<Batch> {
        let mut url = endpoint.url.clone();
        url.set_path(&format!(
            "{}/objects/batch",
            url.path().trim_end_matches('/')
        ));
        let objects: Vec<_> = some
            .iter()
            .map(|one| json!({"oid": one.oid, "size": one.size}))
            .collect();
        let body = json!({"operation": "download", "transfers": ["basic"], "objects": objects});
        let request = self.context.http.post(url.clone());
        let request = request
            .header(header::CONTENT_TYPE, MEDIA_TYPE)
            .header(header::ACCEPT, MEDIA_TYPE)
            .body(body.to_string());
        let request = self.with_leave(request, &url, &endpoint.headers);
        let mut answer = self.send(request)?;
        self.judge(&answer)?;
        let mut body = Vec::new();
        while let Some(chunk) = self
            .context
            .wait("receiving", answer.chunk())?
            .map_err(|_| self.broke_off())?
        {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST_ANSWER {
                return Err(self.refuse("the answer of its Git LFS is too long".to_owned()));
            }
        }
        serde_json::from_slice(&body).map_err(|_| {
            self.refuse(format!(
                "it has files in Git LFS, and its server does not speak of them; {ADVICE}"
            ))
        })
    }

    fn fetch_one(&self, pointer: &Pointer, object: Option<&Object>) -> io::Result<()> {
        let path = pointer.path.display();
        let error = object.and_then(|object| object.error.as_ref());
        let action = object.and_then(|object| object.actions.get("download"));
        let Some(action) = action.filter(|_| error.is_none()) else {
            let why = error.map_or_else(
                || "it is not there".to_owned(),
                |error| {
                    let message: String = error.message.chars().take(LONGEST_MESSAGE).collect();
                    format!("{} {message}", error.code)
                },
            );
            return Err(self.refuse(format!(
                "{path} cannot be had from Git LFS: {why}; {ADVICE}"
            )));
        };
        let mut url = Url::parse(&action.href)
            .map_err(|_| self.refuse(format!("{path} has no address in Git LFS; {ADVICE}")))?;
        let first = url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.context.http.get(url.clone());
            if address::same_origin(&first, &url) {
                request = self.with_leave(request, &url, &action.header);
            }
            let answer = self.send(request)?;
            let to = answer.headers().get(header::LOCATION);
            let to = to.and_then(|to| url.join(to.to_str().ok()?).ok());
            match to.filter(|_| answer.status().is_redirection()) {
                Some(to) if url.scheme() == "https" && to.scheme() != "https" => {
                    return Err(self.refuse(format!("{path} is somewhere less safe than https")));
                }
                Some(to) => url = to,
                None => {
                    self.judge(&answer)?;
                    return self.keep(pointer, answer);
                }
            }
        }
        Err(self.refuse(format!("{path} is redirected without end")))
    }

    /// Writes what comes to a temporary file, and looks at its hash before it counts.
    fn keep(&self, pointer: &Pointer, mut answer: Response) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.kept).map_err(|e| self.disk(&e))?;
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut size = 0;
        loop {
            let chunk = self.context.wait("receiving", answer.chunk())?;
            let Some(chunk) = chunk.map_err(|_| self.broke_off())? else {
                break;
            };
            size += chunk.len() as u64;
            if size > pointer.size {
                break;
            }
            hash.update(&chunk);
            file.write_all(&chunk).map_err(|e| self.disk(&e))?;
        }
        let mut found = String::new();
        for byte in hash.finish().as_ref() {
            write!(found, "{byte:02x}").map_err(io::Error::other)?;
        }
        if size != pointer.size || found != pointer.oid {
            return Err(self.context.fail(Failure::Passing(format!(
                "what came from Git LFS for {} is not what its pointer says",
                pointer.path.display()
            ))));
        }
        let kept = file.persist(self.kept(pointer));
        kept.map(drop).map_err(|e| self.disk(&e.error))
    }

    fn disk(&self, error: &io::Error) -> io::Error {
        self.refuse(format!("a file of Git LFS cannot be kept here: {error}"))
    }

    /// What the server said to show; else the repository's own credentials, to the repository's own host.
    fn with_leave(
        &self,
        mut request: RequestBuilder,
        url: &Url,
        headers: &BTreeMap<String, String>,
    ) -> RequestBuilder {
        let mut shown = false;
        for (name, value) in headers {
            shown |= name.eq_ignore_ascii_case("authorization");
            if let Ok(mut value) = header::HeaderValue::try_from(value) {
                value.set_sensitive(true);
                request = request.header(name, value);
            }
        }
        let Place::Http(home) = &self.context.address.place else {
            return request;
        };
        match &self.context.credentials {
            Some(credentials) if !shown && address::same_origin(home, url) => {
                request.basic_auth(&credentials.user, Some(credentials.password.expose()))
            }
            _ => request,
        }
    }

    fn send(&self, request: RequestBuilder) -> io::Result<Response> {
        let sent = self.context.wait("waiting for an answer", request.send())?;
        sent.map_err(|_| self.broke_off())
    }

    /// The error's own text would quote an address, which may have its leave in it.
    fn broke_off(&self) -> io::Error {
        let reason = "the connection to Git LFS failed".to_owned();
        self.context.fail(Failure::Passing(reason))
    }

    fn judge(&self, answer: &Response) -> io::Result<()> {
        let status = answer.status();
        let failure = match status {
            _ if status.is_success() => return Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Authentication(format!(
                "it has files in Git LFS, which refuses the credentials ({status}); check that they may read them, or {ADVICE}"
            )),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Failure::Passing(format!("Git LFS answers {status}"))
            }
            _ if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
                Failure::Passing(format!("Git LFS answers {status}"))
            }
            _ => Failure::Refused(format!(
                "it has files in Git LFS, which answers {status}; {ADVICE}"
            )),
        };
        Err(self.context.fail(failure))
    }
}

/// What helps who does not need the files.
const ADVICE: &str =
    "set GIT_LFS_SKIP_SMUDGE=1 where this runs to have pointers in place of such files";

#[cfg(test)]
mod tests;
