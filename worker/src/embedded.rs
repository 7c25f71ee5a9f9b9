//! The embedded API, for people who have configured none: brought up by the first process that needs it, found by the others.

use std::{
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::Flock;
use url::Url;

use worker_config::settings::ServerSettings;
use worker_server::{Server, ServerOptions, Storage};

use crate::state_dir::{self, StateDirError};

/// How long another process may take to bring its API up before this one gives up on finding it.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// For how long a process wants the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// For one command. A process that stays waits for it to end.
    Brief,
    /// For as long as the process lives: others may lean on it.
    Lasting,
}

/// The embedded API, and whether this process is the one that runs it.
#[derive(Debug)]
pub(crate) struct Embedded {
    /// Where it is.
    pub(crate) url: Url,
    /// The file with its data.
    pub(crate) database: PathBuf,
    own: Option<(Server, Flock<File>)>,
}

/// Why the embedded API cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmbeddedError {
    /// Its directory cannot be used.
    #[error(transparent)]
    Directory(#[from] StateDirError),
    /// It cannot be started.
    #[error("embedded API with its data in {}", .database.display())]
    Start {
        /// Its data.
        database: PathBuf,
        /// Why.
        source: worker_server::ServerError,
    },
    /// Another process holds it and does not say where it is.
    #[error("another process holds the embedded API in {}, and does not answer; end it, or use another --state-dir", .0.display())]
    Silent(PathBuf),
}

// === impl Embedded ===

impl Embedded {
    /// Finds the running embedded API of this state directory, or brings it up in this process.
    pub(crate) async fn attach(
        state_dir: &Path,
        settings: &ServerSettings,
        stay: Stay,
    ) -> Result<Self, EmbeddedError> {
        let directory = state_dir.join("api");
        let database = directory.join("prefect.db");
        let note = directory.join("url");
        let deadline = tokio::time::Instant::now() + LOOK_LIMIT;
        loop {
            if let Some(lock) = state_dir::try_lock(&directory)? {
                let server = start(&database, &note, settings, stay).await?;
                return Ok(Self {
                    url: server.url(),
                    database,
                    own: Some((server, lock)),
                });
            }
            if let Some((url, holder)) = read_note(&note)
                && (stay == Stay::Brief || holder == Stay::Lasting)
                && answers(&url).await
            {
                return Ok(Self {
                    url,
                    database,
                    own: None,
                });
            }
            if tokio::time::Instant::now() > deadline {
                return Err(EmbeddedError::Silent(directory));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether it ends with this process.
    pub(crate) fn is_ours(&self) -> bool {
        self.own.is_some()
    }

    /// Ends it, if it is this process' own.
    pub(crate) async fn stop(self) {
        if let Some((server, _lock)) = self.own {
            server.stop().await;
        }
    }
}

/// Starts the server at the configured address. Without a configured port it takes the one it had last, because jobs that outlived the last
/// process know only that one; if that one is taken, any.
async fn start(
    database: &Path,
    note: &Path,
    settings: &ServerSettings,
    stay: Stay,
) -> Result<Server, EmbeddedError> {
    let failed = |source| EmbeddedError::Start {
        database: database.to_owned(),
        source,
    };
    let options = |host: IpAddr, port: u16| {
        let listen = SocketAddr::new(host, port);
        let storage = Storage::File(database.to_owned());
        ServerOptions {
            listen,
            storage,
            token: settings.token.clone(),
            faults: None,
        }
    };
    let last = read_note(note).and_then(|(url, _)| url.port()).unwrap_or(0);
    let server = if settings.port == 0 && last != 0 {
        match Server::start(options(settings.host, last)).await {
            Ok(server) => server,
            Err(_taken) => Server::start(options(settings.host, 0))
                .await
                .map_err(failed)?,
        }
    } else {
        Server::start(options(settings.host, settings.port))
            .await
            .map_err(failed)?
    };
    // Without the note the API works all the same; only other processes do not find it.
    let text = match stay {
        Stay::Brief => format!("{} brief", server.url()),
        Stay::Lasting => server.url().to_string(),
    };
    let part = note.with_extension("part");
    if let Err(error) = fs::write(&part, text).and_then(|()| fs::rename(&part, note)) {
        tracing::warn!(%error, "other processes will not find the embedded API");
    }
    Ok(server)
}

/// A note is the URL, and the word `brief` where the one that runs the API will not stay.
fn read_note(note: &Path) -> Option<(Url, Stay)> {
    let text = fs::read_to_string(note).ok()?;
    let mut words = text.split_whitespace();
    let url = words.next()?.parse().ok()?;
    Some((
        url,
        if words.next() == Some("brief") {
            Stay::Brief
        } else {
            Stay::Lasting
        },
    ))
}

async fn answers(url: &Url) -> bool {
    let address = url
        .socket_addrs(|| None)
        .ok()
        .and_then(|all| all.into_iter().next());
    match address {
        Some(address) => tokio::net::TcpStream::connect(address).await.is_ok(),
        None => false,
    }
}
