//! A way to the API of a Kubernetes cluster that knows what is asked on it, and on which things go wrong when a test says so.
//!
//! It takes plain HTTP/1.1 on loopback and carries it over TLS: as whoever asks, by the token that they bring, or as the administrator of the
//! kubeconfig. It understands no more of an answer than when a watch has ended.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::Notify,
    task::JoinSet,
};

use self::{
    cluster::{Cluster, Tls},
    request::Request,
};

mod cluster;
mod request;

/// A way to a cluster, for as long as it lives.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The administrator of the kubeconfig, whatever is brought.
    Administrator,
    /// Whoever's token is brought.
    Bearer,
}

/// What is answered in the cluster's place.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A failure of this status, and after how many seconds to ask again.
    Answer(u16, Option<u32>),
    /// The version that a watch would begin at is too old.
    Expired,
}

#[derive(Debug)]
struct Shared {
    cluster: Cluster,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<String, u32>,
    open: BTreeMap<u64, Connection>,
    faults: Vec<Rule>,
    /// The most watches of each kind that were open at the same time.
    most: BTreeMap<String, usize>,
}

/// A fault for what begins like this, and how often it happens.
#[derive(Debug)]
struct Rule {
    beginning: String,
    fault: Fault,
    left: usize,
}

#[derive(Debug, Default)]
struct Connection {
    /// What was asked last, until its answer has ended as far as we know.
    asked: Option<String>,
    is_silent: bool,
    cut: Arc<Notify>,
}

// === impl Gateway ===

impl Gateway {
    /// Opens a way to the cluster of this kubeconfig.
    ///
    /// # Errors
    /// When it names no cluster, or no port can be had.
    pub fn open(kubeconfig: &Path, identity: Identity) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let shared = Arc::new(Shared {
            cluster: Cluster::read(kubeconfig, identity)?,
            state: Mutex::default(),
        });
        let address = listener.local_addr()?;
        // It ends with the runtime, which this owns.
        runtime.spawn(listen(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _runtime: runtime,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was asked so far and how often: a verb and a resource, as in `watch pods` or `get pods/log`.
    pub fn counts(&self) -> BTreeMap<String, u32> {
        self.shared.lock().counts.clone()
    }

    /// The most watches of each kind that were ever open at the same time.
    pub fn most_watches(&self) -> BTreeMap<String, usize> {
        self.shared.lock().most.clone()
    }

    /// How many requests of this kind are on their way now.
    pub fn open_requests(&self, kind: &str) -> usize {
        let state = self.shared.lock();
        let open = state.open.values();
        open.filter(|one| one.asked.as_deref() == Some(kind))
            .count()
    }

    /// Answers so many of the next requests whose kind begins like this (nothing: all) in the cluster's place.
    pub fn fail(&self, beginning: &str, fault: Fault, times: usize) {
        self.shared.lock().faults.push(Rule {
            beginning: beginning.to_owned(),
            fault,
            left: times,
        });
    }

    /// How many failures that were ordered are still to happen.
    pub fn failures_left(&self) -> usize {
        self.shared.lock().faults.iter().map(|rule| rule.left).sum()
    }

    /// From now on nothing comes back on the connections whose request begins like this, and they stay. How many there are.
    pub fn silence(&self, beginning: &str) -> usize {
        let mut state = self.shared.lock();
        let open = state.open.values_mut();
        let silenced = open.filter(|one| one.asks(beginning)).map(|one| {
            one.is_silent = true;
        });
        silenced.count()
    }

    /// Resets the connections whose request begins like this. How many there were.
    pub fn reset(&self, beginning: &str) -> usize {
        let state = self.shared.lock();
        let open = state.open.values();
        let cut = open.filter(|one| one.asks(beginning)).map(|one| {
            one.cut.notify_one();
        });
        cut.count()
    }
}

// === impl Connection ===

impl Connection {
    fn asks(&self, beginning: &str) -> bool {
        let asked = self.asked.as_deref();
        asked.is_some_and(|asked| asked.starts_with(beginning))
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self, id: u64) -> Arc<Notify> {
        Arc::clone(&self.lock().open.entry(id).or_default().cut)
    }

    fn closed(&self, id: u64) {
        self.lock().open.remove(&id);
    }

    fn is_silent(&self, id: u64) -> bool {
        self.lock().open.get(&id).is_some_and(|one| one.is_silent)
    }

    fn answered(&self, id: u64) {
        if let Some(connection) = self.lock().open.get_mut(&id) {
            connection.asked = None;
        }
    }

    /// Takes note of a request. What to answer in the cluster's place, if anything.
    fn asked(&self, id: u64, kind: &str) -> Option<Fault> {
        let mut state = self.lock();
        *state.counts.entry(kind.to_owned()).or_default() += 1;
        let mut rules = state.faults.iter_mut();
        let rule = rules.find(|rule| rule.left > 0 && kind.starts_with(&rule.beginning));
        if let Some(rule) = rule {
            rule.left -= 1;
            return Some(rule.fault.clone());
        }
        if let Some(connection) = state.open.get_mut(&id) {
            connection.asked = Some(kind.to_owned());
        }
        if kind.starts_with("watch ") {
            let open = state.open.values();
            let now = open
                .filter(|one| one.asked.as_deref() == Some(kind))
                .count();
            let most = state.most.entry(kind.to_owned()).or_default();
            *most = now.max(*most);
        }
        None
    }
}

// === impl Fault ===

impl Fault {
    fn answer(&self) -> Vec<u8> {
        let status = |code: u16, reason: &str, message: &str, after: Option<u32>| {
            let details = after.map_or_else(
                || "{}".to_owned(),
                |after| format!(r#"{{"retryAfterSeconds":{after}}}"#),
            );
            format!(
                r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"{message}","reason":"{reason}","details":{details},"code":{code}}}"#
            )
        };
        match self {
            Self::Answer(code, after) => {
                let reason = match code {
                    429 => "TooManyRequests",
                    401 => "Unauthorized",
                    _ => "InternalError",
                };
                let body = status(*code, reason, "a test says so", *after);
                let after = after.map_or_else(String::new, |after| format!("Retry-After: {after}\r\n"));
                format!(
                    "HTTP/1.1 {code} {reason}\r\nContent-Type: application/json\r\n{after}Content-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            // A watch is answered, and the first that it has to say is that it cannot be had.
            Self::Expired => {
                let body = status(410, "Expired", "too old resource version", None);
                let event = format!("{{\"type\":\"ERROR\",\"object\":{body}}}\n");
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n0\r\n\r\n",
                    event.len()
                )
            }
        }
        .into_bytes()
    }
}

// === functions ===

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut id = 0;
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        id += 1;
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let cut = shared.opened(id);
            let (requests, mut answers) = client.into_split();
            tokio::select! {
                // A connection that breaks is the business of those who talked.
                _ = carry(id, requests, &mut answers, &shared) => {}
                () = cut.notified() => {
                    answers.as_ref().set_zero_linger().ok();
                }
            }
            shared.closed(id);
        });
    }
}

/// Carries one connection.
async fn carry(
    id: u64,
    requests: OwnedReadHalf,
    answers: &mut OwnedWriteHalf,
    shared: &Shared,
) -> io::Result<()> {
    let server = shared.cluster.connect().await?;
    let (mut answered, mut asked) = tokio::io::split::<Tls<TcpStream>>(server);
    let mut requests = BufReader::new(requests);
    let mut piece = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            count = answered.read(&mut piece) => {
                let count = count?;
                if count == 0 {
                    return answers.shutdown().await;
                }
                if shared.is_silent(id) {
                    continue;
                }
                answers.write_all(&piece[..count]).await?;
                // So does an answer end of which nobody knew the length at its beginning.
                if piece[..count].ends_with(b"0\r\n\r\n") {
                    shared.answered(id);
                }
            }
            // Nothing is taken out here, so nothing is lost when the other branch is quicker.
            next = requests.fill_buf() => {
                if next?.is_empty() {
                    return Ok(());
                }
                let Some(request) = Request::read(&mut requests).await? else { return Ok(()) };
                match shared.asked(id, &request.kind) {
                    Some(fault) => answers.write_all(&fault.answer()).await?,
                    None => asked.write_all(&request.bytes).await?,
                }
                asked.flush().await?;
            }
        }
    }
}
