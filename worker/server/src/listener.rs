//! Connections: how many there may be, and how one is cut off.
//!
//! The HTTP server below us offers no way to drop a connection without an answer, or all of them at once. So the stream
//! it reads from and writes to can be made to fail.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Accepts connections, within a limit, until the server ends.
#[derive(Debug)]
pub(crate) struct Listener {
    tcp: TcpListener,
    slots: Arc<Semaphore>,
    end: CancellationToken,
}

/// A connection that can be cut.
#[derive(Debug)]
pub(crate) struct Connection {
    tcp: TcpStream,
    cut: Cut,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
    _slot: OwnedSemaphorePermit,
}

/// Cuts the connection a request came in on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut(Arc<AtomicBool>);

/// A worker keeps a handful of connections and each engine it starts a few: enough for a hundred of them.
const CONNECTIONS: usize = 1024;
/// How long to wait when the system has no more file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

// === impl Listener ===

impl Listener {
    /// Takes over a socket that listens.
    pub(crate) fn new(tcp: TcpListener, end: CancellationToken) -> Self {
        Self {
            tcp,
            slots: Arc::new(Semaphore::new(CONNECTIONS)),
            end,
        }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let slot = Arc::clone(&self.slots)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            match self.tcp.accept().await {
                Ok((tcp, peer)) => {
                    if let Err(error) = tcp.set_nodelay(true) {
                        tracing::debug!(%error, "connection stays without TCP_NODELAY");
                    }
                    let connection = Connection {
                        tcp,
                        cut: Cut::default(),
                        end: Box::pin(self.end.clone().cancelled_owned()),
                        _slot: slot,
                    };
                    return (connection, peer);
                }
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

// === impl Connection ===

impl Connection {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let ended = self.end.as_mut().poll(context).is_ready();
        if ended || self.cut.0.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.tcp).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.0.load(Ordering::Acquire) {
            // Closed with zero linger, the peer sees a reset and not an orderly end.
            return Poll::Ready(self.tcp.set_zero_linger());
        }
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.cut.0.load(Ordering::Acquire) {
            // Failing that, the peer sees an end instead of a reset, which is as much of a loss.
            drop(self.tcp.set_zero_linger());
        }
    }
}

// === impl Cut ===

impl Cut {
    /// From now on, nothing goes over the connection; it ends with the next attempt.
    pub(crate) fn cut(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Connected<IncomingStream<'_, Listener>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().cut.clone()
    }
}
