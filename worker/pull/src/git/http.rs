//! Git's smart protocol over HTTP: a request for what there is, then one or more that say what is wanted.
//!
//! Credentials go to the host they were given for and to no other, wherever a server may point.

use std::{
    io::{self, Read, Write},
    sync::{Arc, Mutex, PoisonError},
};

use git2::{
    Error,
    transport::{Service, SmartSubtransport, SmartSubtransportStream},
};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use tokio_util::bytes::{Buf, Bytes};
use url::Url;

use super::{
    address::{self, Place},
    context::Context,
    error::Failure,
};

/// How many times a server may point elsewhere; as many as git allows by default, and more than any hosting needs.
const MOST_REDIRECTS: usize = 5;

/// Some servers show their sign-in page to whatever does not begin its name like this.
pub(super) const USER_AGENT: &str = concat!("git/2.0 (worker ", env!("CARGO_PKG_VERSION"), ")");

/// One repository over HTTP.
pub(super) struct Http {
    context: Arc<Context>,
    /// Where the repository turned out to be, and whether it wants the credentials.
    found: Arc<Mutex<Option<Found>>>,
}

#[derive(Clone)]
struct Found {
    base: Url,
    credentials: bool,
}

/// One request and its answer.
struct Exchange {
    context: Arc<Context>,
    found: Arc<Mutex<Option<Found>>>,
    state: State,
}

enum State {
    /// The first request: what there is.
    Asking,
    /// What is to be sent, until it is first read from.
    Writing(Vec<u8>),
    Reading {
        answer: Response,
        rest: Bytes,
    },
}

// === impl Http ===

impl Http {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            found: Arc::default(),
        }
    }
}

impl SmartSubtransport for Http {
    fn action(
        &self,
        _url: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, Error> {
        let state = match service {
            Service::UploadPackLs => State::Asking,
            Service::UploadPack => State::Writing(Vec::new()),
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(Error::from_str("nothing is ever sent to a repository"));
            }
        };
        Ok(Box::new(Exchange {
            context: Arc::clone(&self.context),
            found: Arc::clone(&self.found),
            state,
        }))
    }

    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

// === impl Exchange ===

impl Read for Exchange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.state {
                State::Asking => {
                    let answer = self.ask()?;
                    self.state = State::reading(answer);
                }
                State::Writing(body) => {
                    let body = std::mem::take(body);
                    let answer = self.post(body)?;
                    self.state = State::reading(answer);
                }
                State::Reading { answer, rest } => {
                    if rest.is_empty() {
                        let chunk = self.context.wait("receiving", answer.chunk())?;
                        let chunk = chunk.map_err(|error| {
                            let reason = format!("the transfer broke off: {}", root(&error));
                            self.context.fail(Failure::Passing(reason))
                        })?;
                        let Some(chunk) = chunk else { return Ok(0) };
                        *rest = chunk;
                        continue;
                    }
                    let length = rest.len().min(buffer.len());
                    rest.copy_to_slice(&mut buffer[..length]);
                    return Ok(length);
                }
            }
        }
    }
}

impl Write for Exchange {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Writing(body) => body.extend_from_slice(bytes),
            State::Asking | State::Reading { .. } => {
                return Err(io::Error::other("written to what is being read"));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Exchange {
    /// Asks what there is, and learns on the way where it is and whether credentials are wanted.
    fn ask(&self) -> io::Result<Response> {
        let Place::Http(home) = &self.context.address.place else {
            return Err(io::Error::other("not an address of HTTP"));
        };
        let mut base = home.clone();
        let mut trusted = self.context.credentials.is_some();
        let mut refused = false;
        for _ in 0..=MOST_REDIRECTS {
            let mut url = below(&base, "info/refs");
            url.query_pairs_mut()
                .append_pair("service", "git-upload-pack");
            let with = trusted && address::same_origin(home, &base);
            let answer = self.send(self.context.http.get(url.clone()), with)?;
            if answer.status().is_redirection() {
                base = self.redirected(&url, &answer)?;
                continue;
            }
            // A repository that anybody may read is read, as git does, even if the token beside it has run out.
            if answer.status() == StatusCode::UNAUTHORIZED && with {
                (trusted, refused) = (false, true);
                continue;
            }
            let elsewhere = !address::same_origin(home, &base);
            self.judge(&answer, refused, elsewhere.then_some(&base))?;
            let kind = answer.headers().get(header::CONTENT_TYPE);
            if kind.is_none_or(|kind| !kind.as_bytes().starts_with(b"application/x-git-")) {
                // A sign-in page is what some hostings show in place of a refusal.
                return Err(self.context.fail(Failure::Authentication(format!(
                    "{} answers with a page and not with a repository; {}",
                    base.host_str().unwrap_or_default(),
                    self.advice(refused),
                ))));
            }
            let found = Found {
                base,
                credentials: with,
            };
            *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            return Ok(answer);
        }
        let reason = format!("redirected more than {MOST_REDIRECTS} times");
        Err(self.context.fail(Failure::Passing(reason)))
    }

    /// Says what is wanted. A redirect here is an error: the first request has settled where the repository is.
    fn post(&self, body: Vec<u8>) -> io::Result<Response> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Found { base, credentials }) = found.clone() else {
            return Err(io::Error::other("nobody asked what there is"));
        };
        drop(found);
        let request = self
            .context
            .http
            .post(below(&base, "git-upload-pack"))
            .header(
                header::CONTENT_TYPE,
                "application/x-git-upload-pack-request",
            )
            .header(header::ACCEPT, "application/x-git-upload-pack-result")
            .body(body);
        let answer = self.send(request, credentials)?;
        self.judge(&answer, credentials, None)?;
        Ok(answer)
    }

    fn send(&self, mut request: RequestBuilder, with_credentials: bool) -> io::Result<Response> {
        if with_credentials && let Some(credentials) = &self.context.credentials {
            let password = credentials.password.expose();
            request = request.basic_auth(&credentials.user, Some(password));
        }
        let sent = self.context.wait("waiting for an answer", request.send())?;
        sent.map_err(|error| {
            let reason = if error.is_connect() {
                format!("cannot connect: {}", root(&error))
            } else {
                format!("the connection failed: {}", root(&error))
            };
            self.context.fail(Failure::Passing(reason))
        })
    }

    /// Where a redirect leads, without what the request added.
    fn redirected(&self, from: &Url, answer: &Response) -> io::Result<Url> {
        let refused = |reason: &str| self.context.fail(Failure::Refused(reason.to_owned()));
        let to = answer.headers().get(header::LOCATION);
        let to = to
            .and_then(|to| to.to_str().ok())
            .and_then(|to| from.join(to).ok())
            .ok_or_else(|| refused("redirected to nowhere; check the address"))?;
        let plain = from.scheme() == "https" && to.scheme() != "https";
        if plain || !matches!(to.scheme(), "http" | "https") {
            return Err(refused(
                "redirected from https to something less safe, which is not followed; check the address",
            ));
        }
        let path = to.path().strip_suffix("/info/refs");
        let path = path
            .ok_or_else(|| {
                refused("redirected to what is not a repository, most often a sign-in page; check the address and the credentials")
            })?
            .to_owned();
        let mut base = to.clone();
        base.set_path(&path);
        base.set_query(None);
        // Cannot fail for HTTP; a user that the server made up is none of ours.
        let _cleared = (base.set_username(""), base.set_password(None));
        Ok(base)
    }

    fn judge(&self, answer: &Response, refused: bool, elsewhere: Option<&Url>) -> io::Result<()> {
        let status = answer.status();
        let failure = match status {
            StatusCode::OK => return Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => match elsewhere {
                Some(url) => Failure::Authentication(format!(
                    "the server redirects to {}, which wants credentials, and those given are for another host and were not sent; use the address it redirects to",
                    url.host_str().unwrap_or_default(),
                )),
                None => {
                    Failure::Authentication(self.advice(refused || status == StatusCode::FORBIDDEN))
                }
            },
            StatusCode::NOT_FOUND | StatusCode::GONE => Failure::NotFound,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Failure::Passing(format!("the server answers {status}"))
            }
            _ if status.is_server_error() => {
                Failure::Passing(format!("the server answers {status}"))
            }
            _ => Failure::Refused(format!("the server answers {status}; check the address")),
        };
        Err(self.context.fail(failure))
    }

    fn advice(&self, refused: bool) -> String {
        match (&self.context.credentials, refused) {
            (Some(_), true) => {
                "the server refuses the credentials; check that the token is right, has not run out and may read this repository".to_owned()
            }
            (Some(_), false) => "the server wants other credentials; check them".to_owned(),
            (None, _) => {
                "the server wants credentials and none were given; set 'credentials' or 'access_token' of the step".to_owned()
            }
        }
    }
}

// === impl State ===

impl State {
    fn reading(answer: Response) -> Self {
        Self::Reading {
            answer,
            rest: Bytes::new(),
        }
    }
}

// === functions ===

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// The innermost cause: the outer ones repeat the address, which is told anyway.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // libgit2 takes texts that end at the first of these.
    cause.to_string().replace('\0', " ")
}
