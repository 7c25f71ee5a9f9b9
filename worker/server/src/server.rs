//! The server as its owner sees it: start, address, stop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::Notify};
use url::Url;
use worker_config::Secret;

use crate::{
    auth::Gate,
    events::Hub,
    faults::{Faults, Interception, Requests},
    listener::{Cut, Listener},
    routes::{self, App, Followers},
    services,
    store::{OpenError, Storage, Store},
    task::Tasks,
};

/// How a server is to be.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where it listens; port 0 means any that is free.
    pub listen: SocketAddr,
    /// Where its database is.
    pub storage: Storage,
    /// What a request has to bring. It must be there when the address is not loopback.
    pub token: Option<Secret>,
    /// What a test lets go wrong.
    pub faults: Option<Faults>,
}

/// A running server. When it is dropped, it ends, with all its tasks and connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    url: Url,
    requests: Requests,
    tasks: Tasks,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It would answer to the whole network without asking who it is.
    #[error(
        "the embedded API at {0} would answer to everybody on the network: give it a token, or let it listen on a loopback address such as 127.0.0.1"
    )]
    TokenMissing(SocketAddr),
    /// The address cannot be had.
    #[error("the embedded API cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database cannot be had.
    #[error("the embedded API cannot open its database")]
    Database(#[source] OpenError),
}

/// How long requests may take to end before their connections are cut.
const GRACE: Duration = Duration::from_secs(2);

// === impl ServerOptions ===

impl Default for ServerOptions {
    /// A free port on loopback, in memory, open to everybody who can reach it.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            storage: Storage::Memory,
            token: None,
            faults: None,
        }
    }
}

// === impl Server ===

impl Server {
    /// Opens the database, listens and serves.
    ///
    /// It must be called inside a tokio runtime, which its tasks run on.
    pub async fn start(options: ServerOptions) -> Result<Self, ServerError> {
        let token = options.token.filter(|token| !token.is_empty());
        if token.is_none() && !options.listen.ip().is_loopback() {
            return Err(ServerError::TokenMissing(options.listen));
        }
        let listening = |source| ServerError::Listen {
            address: options.listen,
            source,
        };
        let tcp = TcpListener::bind(options.listen).await.map_err(listening)?;
        let address = tcp.local_addr().map_err(listening)?;
        let hub = Hub::new();
        let store = Store::open(&options.storage, hub.clone()).map_err(ServerError::Database)?;
        let (tasks, requests) = (Tasks::new(), Requests::default());
        let app = App {
            store: store.clone(),
            hub,
            followers: Followers::new(),
            gate: Gate::new(token),
            deployments_changed: Arc::new(Notify::new()),
            drain: tasks.drain(),
        };
        tasks.start(
            "scheduler",
            services::schedule(store.clone(), Arc::clone(&app.deployments_changed)),
        );
        tasks.start("watch", services::watch(store));
        let interception = Interception {
            faults: options.faults,
            requests: requests.clone(),
        };
        let router = routes::router(app, interception);
        let listener = Listener::new(tcp, tasks.end());
        let service = router.into_make_service_with_connect_info::<Cut>();
        let drain = tasks.drain().cancelled_owned();
        tasks.start_draining("http", async move {
            let serving = axum::serve(listener, service).with_graceful_shutdown(drain);
            if let Err(error) = serving.await {
                tracing::error!(%error, "embedded API ended");
            }
        });
        tracing::debug!(%address, "embedded API listens");
        Ok(Self {
            address,
            url: url_of(address),
            requests,
            tasks,
        })
    }

    /// The address of the API, as `PREFECT_API_URL` takes it: it ends in `/api`.
    pub fn url(&self) -> Url {
        self.url.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often each route was requested.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// Ends the server: it takes no more connections, answers the requests it has, for two seconds at most, and cuts
    /// what is left.
    pub async fn stop(self) {
        if !self.tasks.stop(GRACE).await {
            tracing::warn!("embedded API did not end in time");
        }
    }
}

fn url_of(address: SocketAddr) -> Url {
    format!("http://{address}/api")
        .parse()
        .expect("a socket address makes a URL")
}
