//! One file by HTTP.
//!
//! The reference hands such addresses to `fsspec` without their scheme, which then fails always (3.8.8). Here an address names one
//! file, and that one is fetched.

use std::{fmt, path::Path};

use futures::TryStreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::Response;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use url::Url;

use super::{
    SourceError,
    fault::{Fault, Kind},
    inputs::Inputs,
};

/// Redirects that are followed, as browsers do with a few more.
const MAX_REDIRECTS: usize = 5;

/// An address, and the headers to send along.
#[derive(Clone)]
pub struct Web {
    url: Url,
    headers: HeaderMap,
    file: String,
}

// === impl Web ===

impl Web {
    /// From an address and the settings of fsspec's `HTTPFileSystem`.
    pub(super) fn of_settings(url: &str, settings: Inputs<'_>) -> Result<Self, SourceError> {
        let url = Url::parse(url).map_err(|_| settings.wrong("url", "is not a URL"))?;
        let file = url
            .path_segments()
            .and_then(|mut parts| parts.next_back())
            .unwrap_or_default();
        let file = percent_encoding::percent_decode_str(file)
            .decode_utf8_lossy()
            .into_owned();
        if matches!(file.as_str(), "" | "." | "..") || file.contains(['/', '\\', '\0']) {
            return Err(settings.wrong(
                "url",
                "must name a file: HTTP has no folders that could be listed",
            ));
        }
        let mut headers = HeaderMap::new();
        for holder in [
            settings.map("headers")?,
            settings.map("client_kwargs")?.map("headers")?,
        ] {
            for (name, value) in holder.entries() {
                let header = HeaderName::try_from(name.as_str()).ok();
                let value = value
                    .as_str()
                    .and_then(|value| HeaderValue::try_from(value).ok());
                let (Some(header), Some(mut value)) = (header, value) else {
                    return Err(holder.wrong(name, "is not a header"));
                };
                value.set_sensitive(true);
                headers.insert(header, value);
            }
        }
        if let Some(Value::String(token)) = settings.find("token") {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| settings.wrong("token", "cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(Self { url, headers, file })
    }

    /// Fetches the file into `tree`, and says how large it is.
    pub(super) async fn fetch(
        &self,
        client: &reqwest::Client,
        tree: &Path,
    ) -> Result<u64, WebFault> {
        let response = self.ask(client).await?;
        let promised = response.content_length();
        let path = tree.join(&self.file);
        let mut file = tokio::fs::File::create(&path).await?;
        let mut body = response.bytes_stream();
        let mut got = 0;
        while let Some(chunk) = body.try_next().await.map_err(|error| broken(&error))? {
            got += chunk.len() as u64;
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        if promised.is_some_and(|promised| promised != got) {
            return Err(Fault::transient(format!("{got} bytes arrived, which are not all")).into());
        }
        Ok(got)
    }

    /// Follows redirects. Nothing that was given for one host goes to another.
    async fn ask(&self, client: &reqwest::Client) -> Result<Response, Fault> {
        let mut url = self.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = client.get(url.clone());
            if url.origin() == self.url.origin() {
                request = request.headers(self.headers.clone());
            }
            let response = request.send().await.map_err(|error| broken(&error))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let Some(location) = redirected(&response) else {
                let headers = response.headers().clone();
                return Err(Fault::of_answer(status, &headers, &[]));
            };
            let next = url
                .join(&location)
                .map_err(|_| Fault::permanent("it redirects to no URL"))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(Fault::permanent(
                    "it redirects from HTTPS to something less safe",
                ));
            }
            url = next;
            // Userinfo of the first address is for its host alone.
            if url.origin() != self.url.origin() {
                let strip = url.set_username("").and_then(|()| url.set_password(None));
                strip.map_err(|()| Fault::permanent("it redirects to no URL"))?;
            }
        }
        Err(Fault::permanent("it redirects without end"))
    }

    /// What may be told of the address.
    pub(super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }
}

/// Without userinfo, query and fragment, each of which may be secret.
impl fmt::Display for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self
            .url
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        write!(
            f,
            "{}://{}{port}{}",
            self.url.scheme(),
            self.host(),
            self.url.path()
        )
    }
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Web").field(&self.to_string()).finish()
    }
}

/// Why a file did not arrive.
pub(super) enum WebFault {
    Fault(Fault),
    Disk(std::io::Error),
}

impl WebFault {
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.may_pass())
    }
}

impl fmt::Display for WebFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Disk(error) => error.fmt(f),
        }
    }
}

impl From<Fault> for WebFault {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<std::io::Error> for WebFault {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(error)
    }
}

// === functions ===

fn redirected(response: &Response) -> Option<String> {
    let follow = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response
        .headers()
        .get(header::LOCATION)
        .filter(|_| follow)?;
    location.to_str().ok().map(str::to_owned)
}

fn broken(error: &reqwest::Error) -> Fault {
    if error.is_timeout() {
        return Fault::new(Kind::Transient, "nothing arrived for too long");
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // The outermost error would quote the address.
    let told = if std::ptr::eq(cause, error as &dyn std::error::Error) {
        String::new()
    } else {
        format!(": {cause}")
    };
    Fault::transient(format!("the connection failed{told}"))
}
