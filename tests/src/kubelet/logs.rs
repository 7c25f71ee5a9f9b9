//! What pods write, served as a kubelet does: the cluster comes and asks.

use std::{io, path::Path, sync::Arc, thread, time::Duration};

use jiff::Timestamp;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use super::Shared;

/// How often is looked whether a pod that is followed has written more. It costs next to nothing.
const LOOK: Duration = Duration::from_secs(1);

/// Serves on a port of this machine, until its process ends. The port.
pub(super) fn serve(folder: &Path, shared: Arc<Shared>) -> io::Result<u16> {
    let own = CertificateDer::pem_file_iter(folder.join("server.crt")).map_err(io::Error::other)?;
    let own: Result<Vec<_>, _> = own.collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).map_err(io::Error::other)?;
    let tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(own.map_err(io::Error::other)?, key)
        .map_err(io::Error::other)?;
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || runtime.block_on(listen(listener, acceptor, shared)));
    Ok(port)
}

async fn listen(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            // One that breaks is followed by another.
            answer(client, acceptor, &shared).await.ok();
        });
    }
}

/// Answers `GET /containerLogs/NAMESPACE/POD/CONTAINER`.
async fn answer(client: TcpStream, acceptor: TlsAcceptor, shared: &Shared) -> io::Result<()> {
    let mut client = BufReader::new(acceptor.accept(client).await?);
    let mut first = String::new();
    client.read_line(&mut first).await?;
    let mut line = String::new();
    while client.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let target = first.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let name = path.split('/').nth(3).unwrap_or_default();
    let has = |what: &str| query.split('&').any(|one| one == what);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n";
    client.write_all(head.as_bytes()).await?;
    let (text, mut goes_on) = shared.output(name);
    let written = Timestamp::now();
    for line in text.lines() {
        let line = if has("timestamps=true") {
            format!("{written} {line}\n")
        } else {
            format!("{line}\n")
        };
        client.write_all(line.as_bytes()).await?;
    }
    client.flush().await?;
    while goes_on && has("follow=true") {
        tokio::time::sleep(LOOK).await;
        (_, goes_on) = shared.output(name);
    }
    client.shutdown().await
}
