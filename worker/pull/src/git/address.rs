//! Where a repository is, taken apart once, with nothing secret left in it.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;
use worker_config::Secret;

use super::credentials::Credentials;

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub(super) place: Place,
}

/// How a repository is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Over HTTP or HTTPS. The URL has neither user nor password, nor a slash at its end.
    Http(Url),
    /// Over the OpenSSH program.
    Ssh {
        user: Option<String>,
        host: String,
        port: Option<u16>,
        path: String,
    },
    /// Over the git protocol, which knows neither credentials nor encryption.
    Git {
        host: String,
        port: u16,
        path: String,
    },
    /// On this machine's file system.
    Local(PathBuf),
}

/// Why a text is not an address. It never repeats the text, which may hold a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing was given.
    #[error("the repository's address is empty")]
    Empty,
    /// It looks like a URL and is none.
    #[error("the repository's address is not a URL that can be read")]
    Unreadable,
    /// A scheme that is not known.
    #[error("repositories cannot be fetched over '{0}'; use https, http, ssh, git, file or a path")]
    Scheme(String),
    /// A host or user that a program could take for one of its options.
    #[error("the host and the user of a repository's address must not begin with '-'")]
    Option,
}

/// The port of the git protocol.
const GIT_PORT: u16 = 9418;

// === impl Address ===

impl Address {
    /// Takes an address apart; a path is relative to `base`. What the URL held as user and password comes back apart from it.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(text: &str, base: &Path) -> Result<(Self, Option<Credentials>), AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok((Self::short(text, base)?, None));
        };
        let scheme = scheme.to_ascii_lowercase();
        let place = match scheme.as_str() {
            "http" | "https" => return http(text),
            "file" => Place::Local(file(rest)?),
            "ssh" | "git+ssh" | "ssh+git" => ssh(rest)?,
            "git" => git(text)?,
            _ => return Err(AddressError::Scheme(scheme)),
        };
        Ok((Self { place }, None))
    }

    /// The address of a submodule, which may be relative to its parent's.
    ///
    /// # Errors
    /// [`AddressError`]; a repository that came over the network may not name a path of this machine.
    pub(super) fn of_submodule(&self, text: &str) -> Result<Self, AddressError> {
        if text.starts_with("./") || text.starts_with("../") {
            return Ok(self.relative(text));
        }
        let base = match &self.place {
            Place::Local(path) => path.clone(),
            _ => PathBuf::new(),
        };
        let (address, _) = Self::parse(text, &base)?;
        match (&self.place, &address.place) {
            (Place::Local(_), _) => Ok(address),
            (_, Place::Local(_)) => Err(AddressError::Scheme("file".to_owned())),
            _ => Ok(address),
        }
    }

    /// Whether it is on this machine's file system.
    pub fn is_local(&self) -> bool {
        matches!(self.place, Place::Local(_))
    }

    /// The host, in the form that tells hostings apart; none for a path.
    pub fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Http(url) => url.host_str(),
            Place::Ssh { host, .. } | Place::Git { host, .. } => Some(host),
            Place::Local(_) => None,
        }
    }

    /// Whether credentials for the one may be sent to the other: same scheme, host and port.
    pub(super) fn shares_host(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Place::Http(one), Place::Http(other)) => same_origin(one, other),
            _ => false,
        }
    }

    fn short(text: &str, base: &Path) -> Result<Self, AddressError> {
        let place = match text.split_once(':') {
            Some((host, path)) if !host.contains('/') && !host.is_empty() => {
                let (user, host) = user_and_host(host)?;
                let path = path.to_owned();
                Place::Ssh {
                    user,
                    host: host.trim_matches(['[', ']']).to_owned(),
                    port: None,
                    path,
                }
            }
            _ => Place::Local(base.join(text)),
        };
        Ok(Self { place })
    }

    /// As git resolves a submodule's relative URL: each `../` takes a part off the parent's path.
    fn relative(&self, text: &str) -> Self {
        let mut address = self.clone();
        match &mut address.place {
            Place::Http(url) => {
                let path = climb(url.path(), text);
                url.set_path(&path);
            }
            Place::Ssh { path, .. } | Place::Git { path, .. } => *path = climb(path, text),
            Place::Local(path) => *path = PathBuf::from(climb(&path.to_string_lossy(), text)),
        }
        address
    }
}

impl std::fmt::Display for Address {
    /// What may be shown to anybody, and what a clone's `origin` is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Http(url) => f.write_str(url.as_str()),
            Place::Ssh {
                user,
                host,
                port,
                path,
            } => {
                let user = user
                    .as_ref()
                    .map_or_else(String::new, |user| format!("{user}@"));
                let port = port.map_or_else(String::new, |port| format!(":{port}"));
                let slash = if path.starts_with('/') { "" } else { "/~/" };
                write!(f, "ssh://{user}{host}{port}{slash}{path}")
            }
            Place::Git { host, port, path } => write!(f, "git://{host}:{port}{path}"),
            Place::Local(path) => write!(f, "{}", path.display()),
        }
    }
}

// === functions ===

/// Whether two URLs lead to the same server: scheme, host and port.
pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

fn http(text: &str) -> Result<(Address, Option<Credentials>), AddressError> {
    let mut url = Url::parse(text).map_err(|_| AddressError::Unreadable)?;
    let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let user = decoded(url.username());
    let password = url.password().map(decoded);
    let credentials = match (user.as_str(), password) {
        ("", None) => None,
        // A token alone is written where the user stands; a user alone tells nothing.
        (_, None) => Some(Credentials::lone(user)),
        (_, Some(password)) => Some(Credentials::new(user, Secret::new(password))),
    };
    // Neither can fail: an HTTP URL has a host.
    let _cleared = (url.set_username(""), url.set_password(None));
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    let address = Address {
        place: Place::Http(url),
    };
    Ok((address, credentials))
}

fn file(rest: &str) -> Result<PathBuf, AddressError> {
    let path = rest
        .strip_prefix("localhost/")
        .map_or_else(|| rest.to_owned(), |path| format!("/{path}"));
    if !path.starts_with('/') {
        return Err(AddressError::Unreadable);
    }
    let path = percent_decode_str(&path).decode_utf8_lossy();
    Ok(PathBuf::from(path.into_owned()))
}

fn ssh(rest: &str) -> Result<Place, AddressError> {
    let (authority, path) = rest.split_at(rest.find('/').ok_or(AddressError::Unreadable)?);
    let (user, host) = user_and_host(authority)?;
    // A password has no use: OpenSSH takes none but from a terminal.
    let user = user.map(|user| match user.split_once(':') {
        Some((user, _)) => user.to_owned(),
        None => user,
    });
    let (host, port) = host_and_port(&host)?;
    let path = percent_decode_str(path).decode_utf8_lossy().into_owned();
    // As in git, `/~user/path` begins in a home directory.
    let path = match path.strip_prefix('/') {
        Some(home) if home.starts_with('~') => home.strip_prefix("~/").unwrap_or(home).to_owned(),
        _ => path,
    };
    Ok(Place::Ssh {
        user,
        host,
        port,
        path,
    })
}

fn git(text: &str) -> Result<Place, AddressError> {
    let url = Url::parse(text).map_err(|_| AddressError::Unreadable)?;
    let host = url.host_str().ok_or(AddressError::Unreadable)?.to_owned();
    let path = percent_decode_str(url.path()).decode_utf8_lossy();
    Ok(Place::Git {
        host,
        port: url.port().unwrap_or(GIT_PORT),
        path: path.into_owned(),
    })
}

fn user_and_host(authority: &str) -> Result<(Option<String>, String), AddressError> {
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user.to_owned()), host),
        None => (None, authority),
    };
    let option = |text: &str| text.starts_with('-');
    if option(host) || user.as_deref().is_some_and(option) {
        return Err(AddressError::Option);
    }
    if host.is_empty() || user.as_deref() == Some("") {
        return Err(AddressError::Unreadable);
    }
    Ok((user, host.to_owned()))
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), AddressError> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.filter(|port| !port.is_empty()).map(str::parse);
    let port = port.transpose().map_err(|_| AddressError::Unreadable)?;
    if host.is_empty() {
        return Err(AddressError::Unreadable);
    }
    if host.starts_with('-') {
        return Err(AddressError::Option);
    }
    Ok((host.to_owned(), port))
}

fn climb(path: &str, mut relative: &str) -> String {
    let mut path = path.trim_end_matches('/');
    loop {
        if let Some(rest) = relative.strip_prefix("../") {
            relative = rest;
            path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        } else if let Some(rest) = relative.strip_prefix("./") {
            relative = rest;
        } else {
            return format!("{path}/{relative}");
        }
    }
}

#[cfg(test)]
mod tests;
