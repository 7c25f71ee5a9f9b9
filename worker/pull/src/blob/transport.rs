//! Connections to stores: one HTTP client for each pull, and what is seen of each answer on its way to `object_store`.
//!
//! `object_store` sorts answers coarsely and writes addresses and bodies into its errors. Here each answer is judged where it arrives:
//! what it means for the pull, in words without an address, and what it says about the bytes that follow.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, StatusCode, header};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    },
};
use reqwest::{Certificate, redirect};

use super::{fault::Fault, listing};

/// How long a connection may take to come about; a host that is there answers within a round trip.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// As much of an error's body as is looked at. S3's and Azure's take one or two thousand bytes.
const MAX_ERROR_BODY: usize = 64 << 10;

/// What is particular about the connections of one store.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire {
    /// Certificates to trust besides the system's, as PEM.
    pub(super) roots: Option<Vec<u8>>,
    /// Take any certificate, as the inputs said.
    pub(super) insecure: bool,
    /// A proxy instead of the environment's.
    pub(super) proxy: Option<worker_config::secret::Secret>,
    /// How long may pass without a byte.
    pub(super) stall: Duration,
    /// Ask no proxy, whatever the environment says.
    pub(super) direct: bool,
}

/// Hands the one client to `object_store` and to whatever asks for tokens.
#[derive(Clone, Debug)]
pub(super) struct Connector(pub(super) reqwest::Client);

/// Watches one request; travels in its extensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch(Arc<Mutex<Seen>>);

/// What was seen of a request's answer.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Why there is none, or no good one.
    pub(super) fault: Option<Fault>,
    /// The store answered, and well.
    pub(super) answered: bool,
    /// Of a listing: keys that cannot be had.
    pub(super) unfit: Vec<String>,
    /// Of an object: the MD5 that its bytes must have, where the store says.
    pub(super) md5: Option<[u8; 16]>,
    /// Of an object: it only stands for a folder.
    pub(super) is_folder: bool,
}

#[derive(Debug)]
struct Watched(reqwest::Client);

// === impl Watch ===

impl Watch {
    /// What was seen so far.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a request failed, of which `object_store` says `error`.
    pub(super) fn judge(&self, error: &object_store::Error) -> Fault {
        let mut seen = self.seen();
        match seen.fault.take() {
            Some(fault) => fault,
            None if seen.answered => match Fault::of_store(error) {
                fault if fault.may_pass() => fault,
                _ => Fault::permanent("the server's answer is not one of such a store"),
            },
            None => Fault::of_store(error),
        }
    }

    /// The extensions of a request that is to be watched.
    pub(super) fn extensions(&self) -> http::Extensions {
        let mut extensions = http::Extensions::new();
        extensions.insert(self.clone());
        extensions
    }
}

// === impl Connector ===

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Watched(self.0.clone())))
    }
}

// === impl Watched ===

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let watch = request.extensions().get::<Watch>().cloned();
        let lists = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("list-type=2") || query.contains("comp=list"));
        hide(request.headers_mut());
        let answer = HttpService::call(&self.0, request).await;
        let Some(watch) = watch else {
            return answer;
        };
        match answer {
            Ok(response) if !response.status().is_success() => refuse(response, &watch).await,
            Ok(response) if lists => sift(response, &watch).await,
            Ok(response) => {
                let mut seen = watch.seen();
                seen.answered = true;
                seen.md5 = promised_md5(response.headers());
                seen.is_folder = is_true(response.headers(), "x-ms-meta-hdi_isfolder");
                drop(seen);
                Ok(response)
            }
            Err(error) => {
                watch.seen().fault = Some(Fault::of_connection(&error));
                Err(error)
            }
        }
    }
}

// === functions ===

/// Makes the client that asks the machine's surroundings for credentials: they answer at once or are not there, and are behind no proxy.
pub(super) fn neighbour() -> Result<reqwest::Client, Fault> {
    let stall = Duration::from_secs(2);
    client(&Wire {
        stall,
        direct: true,
        ..Wire::default()
    })
}

/// Makes the client of one pull: rustls with ring, the environment's proxies, no redirects, nothing tried twice.
pub(super) fn client(wire: &Wire) -> Result<reqwest::Client, Fault> {
    // Fails when a provider is installed already, which then is the one to use.
    drop(rustls::crypto::ring::default_provider().install_default());
    let build = || {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(wire.stall))
            .read_timeout(wire.stall)
            // A redirect would take the credentials along; the stores' own are followed by asking anew.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            // What is stored compressed is wanted as it is stored.
            .no_gzip()
            // Many small requests at once: one connection each is faster than one for all, and is what the SDKs do.
            .http1_only()
            .tls_danger_accept_invalid_certs(wire.insecure);
        if wire.direct {
            builder = builder.no_proxy();
        }
        if let Some(proxy) = &wire.proxy {
            let proxy = reqwest::Proxy::all(proxy.expose())
                .map_err(|_| Fault::permanent("the proxy of this step is not a URL"))?;
            builder = builder.proxy(proxy);
        }
        if let Some(pem) = &wire.roots {
            let roots = Certificate::from_pem_bundle(pem)
                .map_err(|_| Fault::permanent("the CA bundle of this step is not PEM"))?;
            builder = builder.tls_certs_merge(roots);
        }
        Ok(builder)
    };
    if let Ok(client) = build()?.build() {
        return Ok(client);
    }
    // Without certificates on the system nothing can be built, not even for plain HTTP.
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok());
    build()?
        .tls_certs_only(roots)
        .build()
        .map_err(|_| Fault::permanent("no HTTP client can be made with these certificates"))
}

/// Keeps what lets in out of whatever the HTTP client writes to its own log.
fn hide(headers: &mut HeaderMap) {
    let secret = [
        header::AUTHORIZATION,
        HeaderName::from_static("x-amz-security-token"),
        HeaderName::from_static("x-aws-ec2-metadata-token"),
    ];
    for name in secret {
        if let Some(value) = headers.get_mut(name) {
            value.set_sensitive(true);
        }
    }
}

/// Writes down why there is no good answer, and passes an empty one on.
async fn refuse(response: HttpResponse, watch: &Watch) -> Result<HttpResponse, HttpError> {
    let (parts, body) = response.into_parts();
    let fits = content_length(&parts.headers).is_none_or(|length| length <= MAX_ERROR_BODY);
    let text = if fits {
        body.bytes().await.unwrap_or_default()
    } else {
        bytes::Bytes::new()
    };
    watch.seen().fault = Some(Fault::of_answer(parts.status, &parts.headers, &text));
    Ok(HttpResponse::from_parts(parts, bytes::Bytes::new().into()))
}

/// Passes a page of a listing on without what `object_store` cannot represent.
async fn sift(response: HttpResponse, watch: &Watch) -> Result<HttpResponse, HttpError> {
    let (mut parts, body) = response.into_parts();
    let body = body.bytes().await.inspect_err(|error| {
        watch.seen().fault = Some(Fault::of_connection(error));
    })?;
    if parts.status != StatusCode::OK {
        let error = std::io::Error::other("a listing that is no listing");
        return Err(HttpError::new(HttpErrorKind::Decode, error));
    }
    let page = listing::sift(body);
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut seen = watch.seen();
    seen.answered = true;
    seen.unfit = page.unfit;
    drop(seen);
    Ok(HttpResponse::from_parts(parts, page.body.into()))
}

/// The MD5 of the object's bytes, where the store says what it is: Azure and Google in a header of its own, S3 in the `ETag` of what was
/// uploaded in one piece and is not encrypted with a key of the user's.
fn promised_md5(headers: &HeaderMap) -> Option<[u8; 16]> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let decode = |encoded: &str| BASE64_STANDARD.decode(encoded).ok()?.try_into().ok();
    if headers.contains_key(header::CONTENT_ENCODING) {
        // It may have been unpacked for us on the way.
        return None;
    }
    if let Some(encoded) = text("content-md5") {
        return decode(encoded);
    }
    if let Some(hashes) = text("x-goog-hash") {
        return hashes
            .split(',')
            .find_map(|hash| decode(hash.trim().strip_prefix("md5=")?));
    }
    let own_key = text("x-amz-server-side-encryption")
        .is_some_and(|kind| kind.starts_with("aws:kms"))
        || headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
    // Only S3 and what speaks like it are known to make it so.
    let is_s3 =
        headers.contains_key("x-amz-request-id") || headers.contains_key("x-amzn-requestid");
    if own_key || !is_s3 {
        return None;
    }
    let digits = text("etag")?.trim_matches('"').as_bytes();
    let mut md5 = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in md5.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(md5)
}

fn is_true(headers: &HeaderMap, name: &str) -> bool {
    headers
        .get(name)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests;
