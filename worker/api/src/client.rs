//! The client: what every request has in common, and what clones of it share.
//!
//! Routes are in `routes`, one request from its tries to its answer in `request`, connections in `transport`.

mod headers;
mod options;

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use http::HeaderValue;
use tokio::sync::Semaphore;
use url::Url;
use worker_config::Secret;

pub use self::options::{ClientBuildError, ClientOptions};
use crate::{
    Credential, RetryPolicy, clock::Clock, csrf::Csrf, tally::Tally, transport, types::WorkerId,
};

/// Speaks to one Prefect API.
///
/// Cheap to clone: clones share connections, the CSRF token and the limit of requests under way.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) retry: RetryPolicy,
    /// For whom it asks.
    pub(crate) caller: Arc<Caller>,
}

/// The worker that a client asks for, if it is one.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    /// Its name, as a header has it.
    pub(crate) name: Option<HeaderValue>,
    /// The id that Cloud gave it.
    pub(crate) id: OnceLock<WorkerId>,
}

/// What clones of a client have in common.
pub(crate) struct Shared {
    pub(crate) http: reqwest::Client,
    /// The same for sockets, which need HTTP/1.1.
    pub(crate) sockets: reqwest::Client,
    /// What a socket's first frame carries: the auth string, else the key.
    pub(crate) token: Option<Secret>,
    /// Without user, password, query and trailing slash.
    pub(crate) base: Url,
    /// Host and port, for errors.
    pub(crate) host: String,
    pub(crate) cloud: bool,
    pub(crate) credential: Credential,
    pub(crate) request_timeout: Duration,
    pub(crate) csrf: Csrf,
    /// Whether any answer ever came: only then can a connection be stale.
    pub(crate) answered: AtomicBool,
    pub(crate) in_flight: Semaphore,
    /// How requests were answered.
    pub(crate) tally: Tally,
    /// The server's clock.
    pub(crate) clock: Clock,
    /// What must not appear in an error that quotes a server.
    secrets: Vec<Secret>,
}

/// Requests under way at once. It is twice the reference's limit of connections; more would only
/// queue in the server, which answers 503 when its database is busy.
const MAX_IN_FLIGHT: usize = 32;

// === impl Client ===

impl Client {
    /// A client with connections of its own. Nothing is sent yet.
    pub fn new(options: ClientOptions) -> Result<Self, ClientBuildError> {
        let mut base = options.url.clone();
        let host = match (base.scheme(), base.host_str(), base.port()) {
            ("http" | "https", Some(host), Some(port)) => format!("{host}:{port}"),
            ("http" | "https", Some(host), None) => host.to_owned(),
            _ => return Err(ClientBuildError::Url),
        };
        let (headers, credential, secrets) = headers::headers(&options)?;
        let sockets = if options.enable_http2 {
            let mut options = options.clone();
            options.enable_http2 = false;
            Some(transport::build(&options, headers.clone())?)
        } else {
            None
        };
        let http = transport::build(&options, headers)?;
        let token = [&options.auth_string, &options.key]
            .into_iter()
            .flatten()
            .find(|secret| !secret.is_empty())
            .cloned();
        base.set_username("")
            .and_then(|()| base.set_password(None))
            .map_err(|()| ClientBuildError::Url)?;
        base.set_query(None);
        base.set_fragment(None);
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        let shared = Shared {
            sockets: sockets.unwrap_or_else(|| http.clone()),
            http,
            token,
            base,
            host,
            cloud: options.cloud,
            credential,
            request_timeout: options.request_timeout,
            csrf: Csrf::new(options.csrf_support && !options.cloud),
            answered: AtomicBool::new(false),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            tally: Tally::default(),
            clock: Clock::default(),
            secrets,
        };
        Ok(Self {
            shared: Arc::new(shared),
            retry: options.retry,
            caller: Arc::new(Caller::named(options.worker_name.as_deref())),
        })
    }

    /// The same client for another worker of this process, with the same connections.
    #[must_use]
    pub fn for_worker(&self, name: &str) -> Self {
        Self {
            caller: Arc::new(Caller::named(Some(name))),
            ..self.clone()
        }
    }

    /// The same client with another number of retries; 0 is for loops, which try again by themselves.
    #[must_use]
    pub fn with_retries(&self, max_retries: u32) -> Self {
        self.with_retry_policy(self.retry.clone().with_retries(max_retries))
    }

    /// The same client with another retry policy.
    #[must_use]
    pub fn with_retry_policy(&self, retry: RetryPolicy) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            caller: Arc::clone(&self.caller),
            retry,
        }
    }

    /// The base URL, without user and password.
    pub fn base_url(&self) -> &Url {
        &self.shared.base
    }

    /// Whether this is Prefect Cloud.
    pub fn is_cloud(&self) -> bool {
        self.shared.cloud
    }

    /// How many tries of requests were answered how since the client was made: by the class of the status, as `2xx`, and `none`.
    pub fn tally(&self) -> Vec<(&'static str, u64)> {
        self.shared.tally.read()
    }

    /// How far the server's clock is ahead of this machine's by its last answer, give or take a second. None: no answer had a date.
    pub fn clock_ahead(&self) -> Option<jiff::SignedDuration> {
        self.shared.clock.ahead()
    }

    /// The id that the server gave this worker in answer to a heartbeat; only Prefect Cloud does.
    pub fn worker_id(&self) -> Option<WorkerId> {
        self.caller.id.get().copied()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.shared.base.as_str())
            .field("cloud", &self.shared.cloud)
            .field("credential", &self.shared.credential)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

// === impl Caller ===

impl Caller {
    fn named(name: Option<&str>) -> Self {
        Self {
            name: name.map(headers::worker_name),
            id: OnceLock::new(),
        }
    }
}

// === impl Shared ===

impl Shared {
    /// The text without any credential of ours that a server may have sent back.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.expose(), "***")
        })
    }
}

#[cfg(test)]
mod tests;
