//! The HTTP client that repositories are fetched with: TLS by rustls, the system's proxies, the system's certificates or those of a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Certificate, Client, ClientBuilder};

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The file of certificates cannot be read.
    #[error("certificates {}", .path.display())]
    ReadCertificates {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds none that can be used.
    #[error("{} holds no certificates in PEM form", .0.display())]
    NoCertificates(PathBuf),
    /// TLS cannot be set up.
    #[error("cannot set up connections")]
    Transport(#[source] reqwest::Error),
}

/// A host that is there answers within a round trip.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the client. Timeouts beyond connecting are those of each fetch; redirects are followed where credentials are known.
pub(super) fn build(certificates: Option<&Path>) -> Result<Client, BuildError> {
    // Fails when a provider is installed already, which then is the one to use.
    drop(rustls::crypto::ring::default_provider().install_default());
    if let Some(path) = certificates {
        let roots = read(path)?;
        return configure()
            .tls_certs_only(roots)
            .build()
            .map_err(BuildError::Transport);
    }
    configure().build().or_else(|error| {
        // Without certificates on the system nothing can be built, not even for plain HTTP.
        let built_in = webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .filter_map(|der| Certificate::from_der(der).ok());
        configure()
            .tls_certs_only(built_in)
            .build()
            .map_err(|_| BuildError::Transport(error))
    })
}

fn configure() -> ClientBuilder {
    Client::builder()
        .user_agent(super::http::USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
}

fn read(path: &Path) -> Result<Vec<Certificate>, BuildError> {
    let pem = fs::read(path).map_err(|source| BuildError::ReadCertificates {
        path: path.to_owned(),
        source,
    })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        _ => Err(BuildError::NoCertificates(path.to_owned())),
    }
}
