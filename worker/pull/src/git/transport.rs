//! Makes our own transports known to libgit2, which is built without TLS and without ssh.
//!
//! They stand under schemes of their own, so nothing of libgit2 is replaced, and no address that libgit2 sees, keeps or prints is a real one.

use std::sync::OnceLock;

use git2::{
    Error,
    transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport, register},
};

use super::{
    address::{Address, Place},
    context::Context,
    duplex::Duplex,
    http::Http,
};

const OVER_HTTP: &str = "pulled-over-http";
const OVER_STREAM: &str = "pulled-over-stream";

static REGISTERED: OnceLock<Result<(), String>> = OnceLock::new();

/// Makes the transports known, once for this process. What fails the first time fails each time.
pub(super) fn prepare() -> Result<(), Error> {
    let registered = REGISTERED.get_or_init(|| register_both().map_err(|e| e.message().to_owned()));
    registered.clone().map_err(|why| Error::from_str(&why))
}

/// What libgit2 is given in place of an address.
pub(super) fn url(address: &Address) -> String {
    let scheme = match &address.place {
        Place::Http(_) => OVER_HTTP,
        Place::Ssh { .. } | Place::Git { .. } | Place::Local(_) => OVER_STREAM,
    };
    format!("{scheme}://repository")
}

#[expect(
    unsafe_code,
    reason = "libgit2 wants registrations to be synchronized with each other and with the making of transports"
)]
fn register_both() -> Result<(), Error> {
    // SAFETY: the only caller is `prepare`, under its lock, and no transport of these schemes is made before `prepare` has returned.
    unsafe {
        register(OVER_HTTP, |remote| {
            let http = Http::new(Context::current()?);
            Transport::smart(remote, true, http)
        })?;
        register(OVER_STREAM, |remote| {
            let stream = Stream(Context::current()?);
            Transport::smart(remote, false, stream)
        })
    }
}

/// A transport of one connection that both sides write to.
struct Stream(std::sync::Arc<Context>);

impl SmartSubtransport for Stream {
    fn action(
        &self,
        _url: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, Error> {
        match service {
            Service::UploadPackLs | Service::UploadPack => {}
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(Error::from_str("nothing is ever sent to a repository"));
            }
        }
        let duplex = Duplex::open(&self.0).map_err(|e| Error::from_str(&e.to_string()))?;
        Ok(Box::new(duplex))
    }

    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}
