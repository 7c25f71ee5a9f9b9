//! A proxy that counts what goes through it: who is asked, how often, by one worker and nobody else.
//!
//! It understands no more of HTTP/1.1 than where a request begins and ends; a connection that becomes a WebSocket is
//! counted once and then only carried.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// The longest line of a request's head that is carried.
const LINE: u64 = 64 * 1024;

/// A proxy on loopback, for as long as the process lives.
#[derive(Clone, Debug)]
pub struct CountingProxy {
    address: SocketAddr,
    counts: Arc<Mutex<BTreeMap<String, u32>>>,
}

// === impl CountingProxy ===

impl CountingProxy {
    /// Carries whatever arrives at a free port to `target`.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let proxy = Self {
            address: listener.local_addr()?,
            counts: Arc::default(),
        };
        let counts = Arc::clone(&proxy.counts);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counts = Arc::clone(&counts);
                // A connection that breaks is the business of those who talked.
                thread::spawn(move || carry(&client, target, &counts).ok());
            }
        });
        Ok(proxy)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was asked since the last time this was called: method and path, with `*` for each id, and how often.
    pub fn take(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === functions ===

/// Carries one connection, request by request.
fn carry(
    client: &TcpStream,
    target: SocketAddr,
    counts: &Mutex<BTreeMap<String, u32>>,
) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    for stream in [client, &server] {
        stream.set_nodelay(true)?;
    }
    let (mut answers, mut answered) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        io::copy(&mut answers, &mut answered).ok();
        answered.shutdown(Shutdown::Both).ok();
    });
    let mut requests = BufReader::new(client.try_clone()?);
    let mut sink = &server;
    while let Some(head) = read_head(&mut requests)? {
        *counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(head.name)
            .or_default() += 1;
        sink.write_all(&head.bytes)?;
        let length = if head.upgrades { u64::MAX } else { head.length };
        io::copy(&mut (&mut requests).take(length), &mut sink)?;
    }
    server.shutdown(Shutdown::Write)
}

/// The head of a request.
#[derive(Debug, Default)]
struct Head {
    name: String,
    bytes: Vec<u8>,
    length: u64,
    upgrades: bool,
}

/// Reads up to the body of the next request; nothing at the end of the connection.
fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut head = Head::default();
    loop {
        let mut line = Vec::new();
        stream.take(LINE).read_until(b'\n', &mut line)?;
        head.bytes.extend_from_slice(&line);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if line.is_empty() {
            return Ok(None);
        } else if text.is_empty() {
            return Ok(Some(head));
        } else if head.name.is_empty() {
            head.name = named(text);
        } else if let Some((name, value)) = text.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.trim().parse().unwrap_or(0),
                "upgrade" => head.upgrades = true,
                _ => {}
            }
        }
    }
}

/// Method and path of a request line, without query, with `*` for what is a name or an id.
fn named(line: &str) -> String {
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let mut hide_next = false;
    let parts: Vec<&str> = path
        .split('/')
        .map(|part| {
            let is_id = part.len() == 36 && part.matches('-').count() == 4;
            let hidden = is_id || hide_next && part != "filter";
            hide_next = part == "work_pools" || part == "name" || part == "slug";
            if hidden { "*" } else { part }
        })
        .collect();
    format!("{method} {}", parts.join("/"))
}

#[cfg(test)]
mod tests;
