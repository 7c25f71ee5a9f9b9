//! A proxy that breaks answers to order, one request a connection, and remembers what it was asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What happens to one answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Something else is answered, head and body.
    Answer(String),
    /// The connection ends after this many bytes of the body.
    Truncate(usize),
    /// Nothing more comes after this many bytes of the body.
    Stall(usize),
    /// The last byte of the body is another one.
    Corrupt,
}

/// The proxy, ended with the test.
pub(crate) struct Faulty {
    pub(crate) url: String,
    orders: Arc<Mutex<Orders>>,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Orders {
    /// Only requests with this in their first line are broken.
    only: String,
    faults: VecDeque<Fault>,
    /// What happens when those are used up.
    always: Option<Fault>,
}

// === impl Faulty ===

impl Faulty {
    /// Stands before the server on `upstream`; without orders it changes nothing.
    pub(crate) async fn before(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let (orders, seen) = (
            Arc::<Mutex<Orders>>::default(),
            Arc::<Mutex<Vec<String>>>::default(),
        );
        let (their_orders, their_seen) = (Arc::clone(&orders), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (orders, seen) = (Arc::clone(&their_orders), Arc::clone(&their_seen));
                tokio::spawn(serve(stream, upstream, orders, seen));
            }
        });
        Self {
            url: format!("http://127.0.0.1:{port}"),
            orders,
            seen,
            task,
        }
    }

    /// A server that only answers to order.
    pub(crate) async fn alone() -> Self {
        Self::before(0).await
    }

    /// Breaks the next answers to requests that have `only` in their first line.
    pub(crate) fn order(&self, only: &str, faults: impl IntoIterator<Item = Fault>) {
        let mut orders = self.orders.lock().expect("whole");
        *orders = Orders {
            only: only.to_owned(),
            faults: faults.into_iter().collect(),
            always: None,
        };
    }

    /// Breaks all of them.
    pub(crate) fn always(&self, only: &str, fault: Fault) {
        let mut orders = self.orders.lock().expect("whole");
        *orders = Orders {
            only: only.to_owned(),
            faults: VecDeque::new(),
            always: Some(fault),
        };
    }

    /// The heads of requests that have `only` in their first line.
    pub(crate) fn seen(&self, only: &str) -> Vec<String> {
        let seen = self.seen.lock().expect("whole");
        let matches = |head: &&String| head.lines().next().is_some_and(|line| line.contains(only));
        seen.iter().filter(matches).cloned().collect()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === functions ===

/// An answer of a store that has no wish to say more.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Fault {
    Fault::Answer(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}

async fn serve(
    mut stream: TcpStream,
    upstream: u16,
    orders: Arc<Mutex<Orders>>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let Some(head) = read_head(&mut stream).await else {
        return;
    };
    let text = String::from_utf8_lossy(&head).into_owned();
    let fault = {
        let mut orders = orders.lock().expect("whole");
        let meant = text
            .lines()
            .next()
            .is_some_and(|line| line.contains(&orders.only));
        if meant {
            orders.faults.pop_front().or_else(|| orders.always.clone())
        } else {
            None
        }
    };
    seen.lock().expect("whole").push(text.clone());
    if let Some(Fault::Answer(answer)) = &fault {
        drop(stream.write_all(answer.as_bytes()).await);
        drop(stream.shutdown().await);
        return;
    }
    let Some((answer_head, mut body)) = forward(&text, upstream).await else {
        return;
    };
    let told = match &fault {
        Some(Fault::Truncate(length) | Fault::Stall(length)) => &body[..(*length).min(body.len())],
        Some(Fault::Corrupt) => {
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
            &body[..]
        }
        _ => &body[..],
    };
    drop(stream.write_all(&answer_head).await);
    drop(stream.write_all(told).await);
    if let Some(Fault::Stall(_)) = fault {
        std::future::pending::<()>().await;
    }
    drop(stream.shutdown().await);
}

async fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(head)
}

/// Asks the server behind, and waits until it has said everything.
async fn forward(head: &str, upstream: u16) -> Option<(Vec<u8>, Vec<u8>)> {
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut server = TcpStream::connect(("127.0.0.1", upstream)).await.ok()?;
    server.write_all(head.as_bytes()).await.ok()?;
    let answer_head = read_head(&mut server).await?;
    let mut body = Vec::new();
    server.read_to_end(&mut body).await.ok()?;
    Some((answer_head, body))
}
