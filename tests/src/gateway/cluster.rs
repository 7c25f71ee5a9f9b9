//! Where a cluster's API is and how it is spoken to, as a kubeconfig says.

use std::{io, path::Path, process::Command, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

use super::Identity;

pub(super) use tokio_rustls::client::TlsStream as Tls;

/// The API of a cluster.
#[derive(Clone)]
pub(super) struct Cluster {
    host: String,
    port: u16,
    connector: TlsConnector,
}

// === impl Cluster ===

impl Cluster {
    /// The first that a kubeconfig names.
    pub(super) fn read(kubeconfig: &Path, identity: Identity) -> io::Result<Self> {
        // The command line knows how these files are to be read.
        let output = Command::new("kubectl")
            .args([
                "config",
                "view",
                "--raw",
                "--minify",
                "--output=json",
                "--kubeconfig",
            ])
            .arg(kubeconfig)
            .output()?;
        let config: Value = serde_json::from_slice(&output.stdout)?;
        let cluster = &config["clusters"][0]["cluster"];
        let user = &config["users"][0]["user"];
        let server = cluster["server"].as_str().unwrap_or_default();
        let address = server
            .strip_prefix("https://")
            .ok_or_else(|| invalid("server"))?;
        let address = address.trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "443"));
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(&pem(cluster, "certificate-authority-data")?) {
            let root = root.map_err(|_| invalid("certificate-authority-data"))?;
            roots.add(root).map_err(io::Error::other)?;
        }
        let tls = ClientConfig::builder().with_root_certificates(roots);
        let tls = match identity {
            Identity::Bearer => tls.with_no_client_auth(),
            Identity::Administrator => {
                let own = pem(user, "client-certificate-data")?;
                let own: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&own).collect();
                let own = own.map_err(|_| invalid("client-certificate-data"))?;
                let key = PrivateKeyDer::from_pem_slice(&pem(user, "client-key-data")?);
                let key = key.map_err(|_| invalid("client-key-data"))?;
                tls.with_client_auth_cert(own, key)
                    .map_err(io::Error::other)?
            }
        };
        Ok(Self {
            host: host.to_owned(),
            port: port.parse().map_err(|_| invalid("server"))?,
            connector: TlsConnector::from(Arc::new(tls)),
        })
    }

    pub(super) async fn connect(&self) -> io::Result<Tls<TcpStream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn pem(of: &Value, field: &str) -> io::Result<Vec<u8>> {
    let text = of[field].as_str().ok_or_else(|| invalid(field))?;
    BASE64_STANDARD.decode(text).map_err(|_| invalid(field))
}

fn invalid(field: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the kubeconfig's {field} cannot be used"),
    )
}
