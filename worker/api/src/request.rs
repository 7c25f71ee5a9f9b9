//! One call, from its tries to its answer.
//!
//! A call is built once, so that each of its tries sends the same bytes. What an answer means to the caller is decided in
//! `answer`; when a try is repeated, in `retry`.

mod answer;

use std::{sync::atomic::Ordering, time::Duration};

use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{CONTENT_TYPE, LOCATION},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Body, Request, Response};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use url::Url;

use crate::{
    ApiError, Client,
    client::Shared,
    csrf::sent_token,
    request::answer::Answer,
    retry::{Again, Failed, retry},
};

/// The part of the request timeout that a read may take. What is read is small, and nothing is lost by asking again: a busy server has
/// been seen to leave one such question unanswered for ever.
const READ_SHARE: u32 = 3;

/// A request that is about to be made.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    /// Below the base URL, percent-encoded.
    path: String,
    query: Option<String>,
    body: Option<Vec<u8>>,
    /// Its answer holds secrets: no error quotes it.
    confidential: bool,
    /// It changes nothing, and is answered fast or not at all.
    reads: bool,
    /// One of the names in the path cannot be part of one.
    impossible_name: bool,
    root: Root,
}

/// What a path is below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    /// The base URL.
    Api,
    /// The account, whose URL that of a workspace of Cloud begins with.
    Account,
}

/// One try that did not succeed.
type TryError = Failed<ApiError>;

/// A server that streams without end must not eat our memory. A page of flow runs with large parameters is longer: then less is asked for.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// Trailing slashes and a change to https need one each; more is a loop.
const MAX_REDIRECTS: usize = 3;

/// Everything but what RFC 3986 calls unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const WORKER_ID_HEADER: HeaderName = HeaderName::from_static("x-prefect-worker-id");

const WORKER_NAME_HEADER: HeaderName = HeaderName::from_static("x-prefect-worker-name");

// === impl Call ===

impl Call {
    /// A `GET` of the path made from these segments; an empty last one makes it end in a slash.
    pub(crate) fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// A `POST`.
    pub(crate) fn post(segments: &[&str]) -> Self {
        Self::new(Method::POST, segments)
    }

    /// A `PATCH`.
    pub(crate) fn patch(segments: &[&str]) -> Self {
        Self::new(Method::PATCH, segments)
    }

    /// A `DELETE`.
    pub(crate) fn delete(segments: &[&str]) -> Self {
        Self::new(Method::DELETE, segments)
    }

    fn new(method: Method, segments: &[&str]) -> Self {
        let reads = method == Method::GET;
        let path = segments.iter().fold(String::new(), |path, segment| {
            path + "/" + &utf8_percent_encode(segment, SEGMENT).to_string()
        });
        Self {
            method,
            path,
            query: None,
            body: None,
            confidential: false,
            reads,
            // URLs give these a meaning that no encoding takes away.
            impossible_name: segments
                .iter()
                .any(|segment| matches!(*segment, "." | "..")),
            root: Root::Api,
        }
    }

    /// The same call, as one that changes nothing.
    pub(crate) fn reading(mut self) -> Self {
        self.reads = true;
        self
    }

    /// The same call with a JSON body.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body)
            .expect("our types have text keys only, which JSON can express");
        self.body = Some(bytes);
        self
    }

    /// The same call with a query.
    pub(crate) fn query(mut self, query: impl Into<String>) -> Self {
        self.query = Some(query.into());
        self
    }

    /// The same call to the account that the workspace is in.
    pub(crate) fn of_account(mut self) -> Self {
        self.root = Root::Account;
        self
    }

    /// The same call, whose answer no error may quote.
    pub(crate) fn confidential(mut self) -> Self {
        self.confidential = true;
        self
    }

    /// The request; the path is legal, so only a name that changes it can be wrong.
    pub(crate) fn request(&self, client: &Client) -> Result<Request, ApiError> {
        let Client { shared, caller, .. } = client;
        if self.impossible_name {
            return Err(ApiError::Invalid {
                what: self.what(shared),
                detail: "no URL can name '.' or '..'; choose another name".to_owned(),
            });
        }
        let mut request = Request::new(self.method.clone(), self.url(shared));
        if let Some(body) = &self.body {
            *request.body_mut() = Some(Body::from(body.clone()));
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(name) = &caller.name {
            let headers = request.headers_mut();
            headers.insert(WORKER_NAME_HEADER, name.clone());
        }
        if let Some(id) = caller.id.get() {
            let id =
                HeaderValue::from_str(&id.to_string()).expect("a UUID is a legal header value");
            request.headers_mut().insert(WORKER_ID_HEADER, id);
        }
        Ok(request)
    }

    fn url(&self, shared: &Shared) -> Url {
        let mut url = shared.base.clone();
        let mut base = shared.base.path().trim_end_matches('/');
        if self.root == Root::Account {
            base = base.split("/workspaces/").next().unwrap_or(base);
        }
        // The parts are encoded already and `%` is left alone, so nothing changes here.
        let path = format!("{base}{}", self.path);
        url.set_path(&path);
        url.set_query(self.query.as_deref());
        url
    }

    /// How errors name it.
    pub(crate) fn what(&self, shared: &Shared) -> String {
        format!("{} {} on {}", self.method, self.path, shared.host)
    }
}

// === impl Client ===

impl Client {
    /// Makes the call and reads its answer as JSON.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, call: Call) -> Result<T, ApiError> {
        let body = self.send(&call).await?;
        answer::decode(&body, call.confidential).map_err(|reason| ApiError::Unexpected {
            what: call.what(&self.shared),
            reason: self.shared.redact(&reason),
        })
    }

    /// Makes the call, whatever its answer says beyond success.
    pub(crate) async fn execute(&self, call: Call) -> Result<(), ApiError> {
        self.send(&call).await.map(drop)
    }

    /// Makes the call and gives the body of the answer.
    pub(crate) async fn send(&self, call: &Call) -> Result<Vec<u8>, ApiError> {
        let request = call.request(self)?;
        let what = call.what(&self.shared);
        let mut limit = self.shared.request_timeout;
        if call.reads {
            limit /= READ_SHARE;
        }
        retry(&self.retry, || {
            let request = copy(&request);
            Box::pin(self.attempt(&what, request, limit))
        })
        .await
    }

    /// Makes one try.
    async fn attempt(
        &self,
        what: &str,
        request: Request,
        limit: Duration,
    ) -> Result<Vec<u8>, TryError> {
        // It is taken for each try, not for the call, so that one who waits for a retry holds up nobody.
        let permit = self.shared.in_flight.acquire().await;
        let result = timeout(limit, self.exchange(what, request))
            .await
            .unwrap_or_else(|_| {
                self.shared.tally.lost();
                Err(no_answer(what, limit))
            });
        drop(permit);
        result
    }

    async fn exchange(&self, what: &str, mut request: Request) -> Result<Vec<u8>, TryError> {
        let shared = &self.shared;
        shared
            .csrf
            .apply(&mut request, |query| self.fetch_csrf_token(query))
            .await?;
        let token = sent_token(&request);
        let answer = self.follow(what, request).await?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        if shared
            .csrf
            .is_refused(token.as_ref(), answer.status, &answer.body)
            .await
        {
            return Err(Failed {
                error: answer.into_error(what, shared),
                again: Again::AtOnce,
            });
        }
        let again = answer.again(&self.retry);
        let error = answer.into_error(what, shared);
        Err(Failed { error, again })
    }

    /// Asks for a CSRF token. Only the two answers that decide something are no errors: a token, and that there are none.
    async fn fetch_csrf_token(&self, query: String) -> Result<(StatusCode, Vec<u8>), TryError> {
        let call = Call::get(&["csrf-token"]);
        let what = call.what(&self.shared);
        let mut url = call.url(&self.shared);
        url.set_query(Some(&query));
        let answer = self.follow(&what, Request::new(Method::GET, url)).await?;
        match answer.status {
            StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY => {
                Ok((answer.status, answer.body))
            }
            _ => Err(Failed {
                again: answer.again(&self.retry),
                error: answer.into_error(&what, &self.shared),
            }),
        }
    }

    /// The error for an answer that should have been a socket.
    pub(crate) async fn refusal(&self, what: &str, response: Response) -> ApiError {
        match self.read(what, response).await {
            Ok(answer) => answer.into_error(what, &self.shared),
            Err(failed) => failed.error,
        }
    }

    /// Sends a request to where redirects lead, as far as that is the same server.
    async fn follow(&self, what: &str, request: Request) -> Result<Answer, TryError> {
        let mut next = request;
        for _ in 0..=MAX_REDIRECTS {
            let sent = copy(&next);
            let response = self
                .shared
                .http
                .execute(next)
                .await
                .inspect_err(|_| self.shared.tally.lost())
                .map_err(|error| self.lost(what, &error))?;
            self.shared.tally.answered(response.status());
            self.shared.answered.store(true, Ordering::Relaxed);
            self.shared.clock.told(response.headers());
            if let Some(url) = redirect(&sent, &response) {
                next = sent;
                *next.url_mut() = url;
            } else {
                return self.read(what, response).await;
            }
        }
        Err(unexpected(what, "it redirects in a circle".to_owned()))
    }

    /// Reads an answer to its end, as far as it is not too long.
    async fn read(&self, what: &str, mut response: Response) -> Result<Answer, TryError> {
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.broken(what, &error))?
        {
            if body.len() + chunk.len() > MAX_BODY {
                let limit = MAX_BODY / (1024 * 1024);
                let what = what.to_owned();
                return Err(Failed {
                    error: ApiError::TooLong { what, limit },
                    again: Again::Never,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    /// The failure of a request that got no answer.
    fn lost(&self, what: &str, error: &reqwest::Error) -> TryError {
        let cause = root_cause(error);
        if !error.is_connect() {
            let answered = self.shared.answered.load(Ordering::Relaxed);
            return Failed {
                error: unavailable(what, format!("the connection was lost: {cause}")),
                // Most likely it was idle and the server closed it just now; a new one will do. Which
                // connection was used is not told, but without an earlier answer there was no idle one.
                again: if answered {
                    Again::AtOnce
                } else {
                    Again::Later
                },
            };
        }
        // Another certificate has to be installed here or there first.
        let certificate = cause.contains("certificate");
        let advice = if certificate {
            "; name the certificate of its authority in PREFECT_API_SSL_CERT_FILE"
        } else {
            ""
        };
        Failed {
            error: unavailable(what, format!("cannot connect: {cause}{advice}")),
            again: if certificate {
                Again::Never
            } else {
                Again::Later
            },
        }
    }

    /// The failure of an answer that broke off.
    fn broken(&self, what: &str, error: &reqwest::Error) -> TryError {
        let cause = self.shared.redact(&root_cause(error));
        Failed {
            error: unavailable(what, format!("the answer broke off: {cause}")),
            again: Again::Later,
        }
    }
}

// === functions ===

fn copy(request: &Request) -> Request {
    request
        .try_clone()
        .expect("the body is in memory, so it can be sent again")
}

/// Where a redirect leads, if it may be followed: to the same server, or to its https side. Anywhere else the
/// credential must not go, and a method that would change must not be guessed.
fn redirect(sent: &Request, response: &Response) -> Option<Url> {
    let keeps_method = match response.status().as_u16() {
        307 | 308 => true,
        301..=303 => sent.method() == Method::GET,
        _ => false,
    };
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let from = sent.url();
    let to = from.join(location).ok()?;
    let same_server = to.origin() == from.origin();
    let upgrade = from.scheme() == "http" && to.scheme() == "https" && to.host() == from.host();
    (keeps_method && (same_server || upgrade)).then_some(to)
}

fn no_answer(what: &str, limit: Duration) -> TryError {
    Failed {
        error: unavailable(what, format!("no answer within {limit:?}")),
        again: Again::Later,
    }
}

fn unexpected(what: &str, reason: String) -> TryError {
    Failed {
        error: ApiError::Unexpected {
            what: what.to_owned(),
            reason,
        },
        again: Again::Never,
    }
}

fn unavailable(what: &str, reason: String) -> ApiError {
    ApiError::Unavailable {
        what: what.to_owned(),
        reason,
    }
}

/// The innermost cause: the outer layers only say which library called which.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
