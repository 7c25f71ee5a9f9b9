//! Azure Blob Storage: what steps, blocks and fsspec settings say of it, and opening it.

use std::sync::Arc;

use object_store::azure::{AzureCredentialProvider, MicrosoftAzure, MicrosoftAzureBuilder};
use url::Url;
use worker_config::secret::Secret;

use super::{
    SourceError,
    ambient::Ambient,
    fault::{Fault, Kind},
    inputs::Inputs,
    s3::once,
    transport::Connector,
};

mod chain;

/// The account of Azure's storage emulators, which is the same everywhere and opens nothing else.
const EMULATOR: (&str, &str) = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
);

/// A container, and what it takes to be let in.
#[derive(Clone, Debug)]
pub struct Azure {
    pub(super) container: String,
    account: String,
    endpoint: String,
    login: Login,
}

/// Who asks.
#[derive(Clone, Debug)]
enum Login {
    /// Nobody in particular.
    Anonymous,
    /// The key of the account.
    Key(Secret),
    /// A shared access signature, as it stands after the question mark.
    Signature(Secret),
    /// An application.
    Application {
        tenant: String,
        id: String,
        secret: Secret,
    },
    /// What Azure's own tools would find.
    Default,
}

// === impl Azure ===

impl Azure {
    /// From a credentials block.
    pub(super) fn new(container: &str, credentials: Inputs<'_>) -> Result<Self, SourceError> {
        if let Some(text) = credentials.find_text("connection_string")? {
            return Self::of_connection_string(container, text).ok_or_else(|| {
                credentials.wrong("connection_string", "is not one that Azure gives")
            });
        }
        let Some(url) = credentials.find_text("account_url")? else {
            return Err(credentials.wrong("connection_string", "or account_url must be there"));
        };
        let wrong = |problem| credentials.wrong("account_url", problem);
        let mut url = Url::parse(url).map_err(|_| wrong("is not a URL"))?;
        let signature = url.query().map(Secret::new);
        url.set_query(None);
        let login = match (
            application(credentials, "tenant_id", "client_id", "client_secret")?,
            signature,
        ) {
            (Some(application), _) => application,
            (None, Some(signature)) => Login::Signature(signature),
            (None, None) => Login::Default,
        };
        let account = account_of(&url).ok_or_else(|| wrong("names no account"))?;
        Ok(Self {
            container: container.to_owned(),
            account,
            endpoint: url.as_str().trim_end_matches('/').to_owned(),
            login,
        })
    }

    /// From the settings of fsspec's `AzureBlobFileSystem`, and the host of its URL where that names the account.
    pub(super) fn of_settings(
        container: &str,
        host: &str,
        settings: Inputs<'_>,
    ) -> Result<Self, SourceError> {
        if let Some(text) = settings.find_text("connection_string")? {
            return Self::of_connection_string(container, text)
                .ok_or_else(|| settings.wrong("connection_string", "is not one that Azure gives"));
        }
        let of_host = host.split('.').next().filter(|account| !account.is_empty());
        let account = match (settings.find_text("account_name")?, of_host) {
            (Some(account), _) | (None, Some(account)) => account.to_owned(),
            (None, None) => return Err(settings.wrong("account_name", "is missing")),
        };
        let endpoint = match settings.find_text("account_host")? {
            Some(host) if host.contains("://") => host.to_owned(),
            Some(host) => format!("https://{host}"),
            None => format!("https://{account}.blob.core.windows.net"),
        };
        let login = if let Some(key) = settings.find_secret("account_key")? {
            Login::Key(key)
        } else if let Some(signature) = settings.find_text("sas_token")? {
            Login::Signature(Secret::new(signature.trim_start_matches('?')))
        } else if let Some(application) =
            application(settings, "tenant_id", "client_id", "client_secret")?
        {
            application
        } else if settings.find_bool("anon")?.unwrap_or(false) {
            Login::Anonymous
        } else {
            Login::Default
        };
        Ok(Self {
            container: container.to_owned(),
            account,
            endpoint,
            login,
        })
    }

    /// `None` for a text that is no connection string.
    fn of_connection_string(container: &str, text: &str) -> Option<Self> {
        let parts: Vec<(&str, &str)> = text
            .split(';')
            .filter(|part| !part.trim().is_empty())
            .map(|part| part.split_once('='))
            .collect::<Option<_>>()?;
        let find = |name: &str| {
            let part = parts
                .iter()
                .find(|(found, _)| found.trim().eq_ignore_ascii_case(name));
            part.map(|(_, value)| value.trim())
                .filter(|value| !value.is_empty())
        };
        let emulated =
            find("UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if emulated {
            let (account, key) = EMULATOR;
            return Some(Self {
                container: container.to_owned(),
                account: account.to_owned(),
                endpoint: format!("http://127.0.0.1:10000/{account}"),
                login: Login::Key(Secret::new(key)),
            });
        }
        let endpoint = match (find("BlobEndpoint"), find("AccountName")) {
            (Some(endpoint), _) => endpoint.trim_end_matches('/').to_owned(),
            (None, Some(account)) => {
                let scheme = find("DefaultEndpointsProtocol").unwrap_or("https");
                let suffix = find("EndpointSuffix").unwrap_or("core.windows.net");
                format!("{scheme}://{account}.blob.{suffix}")
            }
            (None, None) => return None,
        };
        let account = match find("AccountName") {
            Some(account) => account.to_owned(),
            None => account_of(&Url::parse(&endpoint).ok()?)?,
        };
        let login = match (find("AccountKey"), find("SharedAccessSignature")) {
            (Some(key), _) => Login::Key(Secret::new(key)),
            (None, Some(signature)) => {
                Login::Signature(Secret::new(signature.trim_start_matches('?')))
            }
            (None, None) => return None,
        };
        Some(Self {
            container: container.to_owned(),
            account,
            endpoint,
            login,
        })
    }

    /// Opens it.
    pub(super) fn open(
        &self,
        ambient: &Arc<Ambient>,
        client: &reqwest::Client,
    ) -> Result<MicrosoftAzure, Fault> {
        let builder = self.builder(client);
        let builder = match &self.login {
            Login::Anonymous => builder.with_skip_signature(true),
            Login::Key(key) => builder.with_access_key(key.expose()),
            Login::Signature(signature) => {
                let pairs: Vec<(String, String)> =
                    url::form_urlencoded::parse(signature.expose().as_bytes())
                        .into_owned()
                        .collect();
                builder.with_sas_authorization(pairs)
            }
            Login::Application { tenant, id, secret } => {
                builder.with_client_secret_authorization(id, secret.expose(), tenant)
            }
            Login::Default => builder.with_credentials(chain::provider(self, ambient, client)?),
        };
        builder.build().map_err(|_| {
            Fault::new(
                Kind::Denied,
                "the container's name, the account or its key cannot be used",
            )
        })
    }

    /// The container, opened by nobody yet.
    fn builder(&self, client: &reqwest::Client) -> MicrosoftAzureBuilder {
        MicrosoftAzureBuilder::new()
            .with_container_name(&self.container)
            .with_account(&self.account)
            .with_endpoint(self.endpoint.clone())
            .with_allow_http(true)
            .with_retry(once())
            .with_http_connector(Connector(client.clone()))
    }

    /// What `object_store` makes of a builder's credentials.
    fn credentials_of(builder: MicrosoftAzureBuilder) -> Result<AzureCredentialProvider, Fault> {
        let store = builder.build().map_err(|_| {
            Fault::permanent("what the environment says of Azure credentials cannot be used")
        })?;
        Ok(Arc::clone(store.credentials()))
    }
}

// === functions ===

/// An application's three parts, which come together or not at all.
fn application(
    inputs: Inputs<'_>,
    tenant: &str,
    id: &str,
    secret: &str,
) -> Result<Option<Login>, SourceError> {
    match (
        inputs.find_string(tenant)?,
        inputs.find_string(id)?,
        inputs.find_secret(secret)?,
    ) {
        (Some(tenant), Some(id), Some(secret)) => {
            Ok(Some(Login::Application { tenant, id, secret }))
        }
        // The default chain knows which tenant or identity is meant by these two.
        (_, _, None) => Ok(None),
        _ => Err(inputs.wrong(secret, "needs tenant_id and client_id beside it")),
    }
}

/// The account that an address is of: the first part of the host, or of the path where the host is an emulator's.
fn account_of(url: &Url) -> Option<String> {
    let in_path = || {
        url.path_segments()?
            .next()
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
    };
    match url.host()? {
        url::Host::Domain(host) if host.contains('.') => host.split('.').next().map(str::to_owned),
        _ => in_path(),
    }
}

#[cfg(test)]
mod tests;
