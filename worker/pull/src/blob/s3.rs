//! S3 and what speaks like it: what steps, blocks and fsspec settings say of it, and opening it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use object_store::{
    RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
};
use serde_json::Value;
use worker_config::secret::Secret;

use super::{
    SourceError,
    ambient::Ambient,
    aws,
    fault::Fault,
    inputs::Inputs,
    transport::{Connector, Wire},
};

/// A bucket, and what it takes to be let in.
#[derive(Clone, Debug)]
pub struct S3 {
    pub(super) bucket: String,
    pub(super) login: Login,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    /// Whether the bucket's name is part of the host's; the usual choice where nothing is said.
    pub(super) virtual_hosted: Option<bool>,
    pub(super) use_ssl: bool,
    pub(super) requester_pays: bool,
    pub(super) tuning: Tuning,
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Login {
    pub(super) keys: Option<Keys>,
    pub(super) profile: Option<String>,
    pub(super) role: Option<Role>,
    pub(super) anonymous: bool,
}

/// An access key, with the token of a session where it has one.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) id: Secret,
    pub(super) secret: Secret,
    pub(super) token: Option<Secret>,
}

/// A role to take on before asking.
#[derive(Clone, Debug, Default)]
pub(super) struct Role {
    pub(super) arn: String,
    /// Parameters of `AssumeRole` beyond the role, by their name on the wire.
    pub(super) parameters: Vec<(String, Secret)>,
}

/// What boto's client configuration says of connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Tuning {
    pub(super) insecure: bool,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) proxy: Option<Secret>,
    /// How long may pass without a byte.
    pub(super) stall: Option<Duration>,
    /// How often a request is tried.
    pub(super) attempts: Option<u32>,
}

// === impl S3 ===

impl S3 {
    /// From a credentials block, `AwsCredentials` or `MinIOCredentials`, and parameters of boto's client.
    ///
    /// The reference ignores the step's client parameters when the block has any, be they empty (3.8.8); here the block's win one by one.
    pub(super) fn new(
        bucket: &str,
        credentials: Inputs<'_>,
        parameters: Inputs<'_>,
    ) -> Result<Self, SourceError> {
        let mut found = Self::empty(bucket);
        let pair = |id, secret, token| keys(credentials, id, secret, token);
        found.login.keys = pair(
            "aws_access_key_id",
            "aws_secret_access_key",
            "aws_session_token",
        )?
        .or(pair("minio_root_user", "minio_root_password", "")?);
        found.login.profile = credentials.find_string("profile_name")?;
        if let Some(arn) = credentials.find_string("assume_role_arn")? {
            let parameters = aws::role_parameters(credentials.map("assume_role_kwargs")?)?;
            found.login.role = Some(Role { arn, parameters });
        }
        found.configure(parameters)?;
        found.configure(credentials.map("aws_client_parameters")?)?;
        if let Some(region) = credentials.find_string("region_name")? {
            found.region = Some(region);
        }
        Ok(found)
    }

    /// From the settings of fsspec's `S3FileSystem`.
    pub(super) fn of_settings(bucket: &str, settings: Inputs<'_>) -> Result<Self, SourceError> {
        let mut found = Self::empty(bucket);
        found.login.keys = keys(settings, "key", "secret", "token")?
            .or(keys(settings, "username", "password", "token")?);
        found.login.profile = settings.find_string("profile")?;
        found.login.anonymous = settings.find_bool("anon")?.unwrap_or(false);
        found.requester_pays = settings.find_bool("requester_pays")?.unwrap_or(false);
        found.configure_client(settings.map("config_kwargs")?)?;
        let client = settings.map("client_kwargs")?;
        if let Some(keys) = keys(
            client,
            "aws_access_key_id",
            "aws_secret_access_key",
            "aws_session_token",
        )? {
            found.login.keys = Some(keys);
        }
        found.configure(client)?;
        found.endpoint = settings.find_string("endpoint_url")?.or(found.endpoint);
        found.use_ssl = settings.find_bool("use_ssl")?.unwrap_or(found.use_ssl);
        Ok(found)
    }

    fn empty(bucket: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            login: Login::default(),
            region: None,
            endpoint: None,
            virtual_hosted: None,
            use_ssl: true,
            requester_pays: false,
            tuning: Tuning::default(),
        }
    }

    /// Takes over what boto's `client` is called with; what is not there stays.
    fn configure(&mut self, parameters: Inputs<'_>) -> Result<(), SourceError> {
        if let Some(region) = parameters.find_string("region_name")? {
            self.region = Some(region);
        }
        if let Some(endpoint) = parameters.find_string("endpoint_url")? {
            self.endpoint = Some(endpoint);
        }
        if let Some(use_ssl) = parameters.find_bool("use_ssl")? {
            self.use_ssl = use_ssl;
        }
        match parameters.find("verify") {
            None => {}
            Some(Value::Bool(verify)) => self.tuning.insecure = !verify,
            Some(Value::String(file)) => self.tuning.ca_file = Some(PathBuf::from(file)),
            Some(_) => return Err(parameters.wrong("verify", "must be true, false or a file")),
        }
        if let Some(file) = parameters.find_text("verify_cert_path")? {
            self.tuning.ca_file = Some(PathBuf::from(file));
        }
        self.configure_client(parameters.map("config")?)
    }

    /// Takes over what botocore's `Config` says.
    fn configure_client(&mut self, config: Inputs<'_>) -> Result<(), SourceError> {
        if let Some(region) = config.find_string("region_name")? {
            self.region = Some(region);
        }
        // botocore's sentinel `UNSIGNED` is `unsigned` in JSON.
        if let Some(version) = config.find_text("signature_version")? {
            self.login.anonymous = version.eq_ignore_ascii_case("unsigned");
        }
        if let Some(style) = config.map("s3")?.find_text("addressing_style")? {
            self.virtual_hosted = match style {
                "virtual" => Some(true),
                "path" => Some(false),
                _ => None,
            };
        }
        let proxies = config.map("proxies")?;
        if let Some(proxy) = proxies
            .find_secret("https")?
            .or(proxies.find_secret("http")?)
        {
            self.tuning.proxy = Some(proxy);
        }
        if let Some(seconds) = config.find_number("read_timeout")? {
            self.tuning.stall = Duration::try_from_secs_f64(seconds).ok();
        }
        let retries = config.map("retries")?;
        let attempts = match retries.find_number("total_max_attempts")? {
            Some(total) => Some(total),
            // What botocore calls the most attempts are those after the first.
            None => retries.find_number("max_attempts")?.map(|more| more + 1.0),
        };
        if let Some(attempts) = attempts {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is from 1 to 100"
            )]
            let attempts = attempts.clamp(1.0, 100.0) as u32;
            self.tuning.attempts = Some(attempts);
        }
        Ok(())
    }

    /// What its connections are like. Reads the file of certificates.
    pub(super) fn wire(&self, ambient: &Ambient, stall: Duration) -> Result<Wire, Fault> {
        let file = self
            .tuning
            .ca_file
            .clone()
            .or_else(|| ambient.find("AWS_CA_BUNDLE").map(PathBuf::from));
        Ok(Wire {
            roots: ambient.read_roots(file.as_deref())?,
            insecure: self.tuning.insecure,
            proxy: self.tuning.proxy.clone(),
            stall: self.tuning.stall.unwrap_or(stall),
            direct: false,
        })
    }

    /// Opens it, in `region` where an earlier answer has said which one it is in.
    pub(super) fn open(
        &self,
        ambient: &Arc<Ambient>,
        client: &reqwest::Client,
        region: Option<&str>,
    ) -> Result<AmazonS3, Fault> {
        let profile = aws::Profile::read(ambient, self.login.profile.as_deref())?;
        let region = region
            .map(str::to_owned)
            .or_else(|| self.region.clone())
            .or_else(|| ambient.find("AWS_DEFAULT_REGION"))
            .or_else(|| ambient.find("AWS_REGION"))
            .or_else(|| profile.find("region"))
            .unwrap_or_else(|| aws::DEFAULT_REGION.to_owned());
        let endpoint = self.endpoint.clone().or_else(|| {
            ambient
                .find("AWS_ENDPOINT_URL_S3")
                .or_else(|| ambient.find("AWS_ENDPOINT_URL"))
                .or_else(|| profile.find("endpoint_url"))
        });
        // An address that carries the bucket's name cannot carry dots: no certificate matches them.
        let usual = endpoint.is_none() && !self.bucket.contains('.');
        let virtual_hosted = self.virtual_hosted.unwrap_or(usual);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&region)
            .with_virtual_hosted_style_request(virtual_hosted)
            .with_request_payer(self.requester_pays)
            .with_retry(once())
            .with_http_connector(Connector(client.clone()))
            .with_allow_http(true);
        if let Some(endpoint) = self.address(endpoint, &region, virtual_hosted) {
            builder = builder.with_endpoint(endpoint);
        }
        if self.login.anonymous {
            builder = builder.with_skip_signature(true);
        } else {
            let asker = aws::Asker {
                ambient: Arc::clone(ambient),
                client: client.clone(),
                region,
            };
            builder = builder.with_credentials(aws::provider(&self.login, &profile, asker)?);
        }
        builder
            .build()
            .map_err(|_| Fault::permanent("the bucket's name, region or endpoint cannot be used"))
    }

    /// The address to ask; `None` for Amazon's own.
    fn address(
        &self,
        endpoint: Option<String>,
        region: &str,
        virtual_hosted: bool,
    ) -> Option<String> {
        let Some(endpoint) = endpoint else {
            let plain = (!self.use_ssl).then(|| format!("http://s3.{region}.amazonaws.com"))?;
            return Some(if virtual_hosted {
                self.with_bucket(&plain)
            } else {
                plain
            });
        };
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Some(if virtual_hosted {
            self.with_bucket(&endpoint)
        } else {
            endpoint
        })
    }

    fn with_bucket(&self, address: &str) -> String {
        match address.split_once("://") {
            Some((scheme, host)) => format!("{scheme}://{}.{host}", self.bucket),
            None => address.to_owned(),
        }
    }
}

// === functions ===

/// No request is repeated by `object_store`: that is done in one place.
pub(super) fn once() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

/// A key and its secret, which come together or not at all.
fn keys(
    inputs: Inputs<'_>,
    id: &str,
    secret: &str,
    token: &str,
) -> Result<Option<Keys>, SourceError> {
    match (inputs.find_secret(id)?, inputs.find_secret(secret)?) {
        (Some(id), Some(secret)) => Ok(Some(Keys {
            id,
            secret,
            token: inputs.find_secret(token)?,
        })),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(inputs.wrong(secret, "is missing, as the other half of the key is there"))
        }
        (None, Some(_)) => {
            Err(inputs.wrong(id, "is missing, as the other half of the key is there"))
        }
    }
}

/// The names by which `object_store` knows what the process was given by containers and instances.
pub(super) const AMBIENT_KEYS: [(&str, AmazonS3ConfigKey); 5] = [
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
    ),
    ("AWS_METADATA_ENDPOINT", AmazonS3ConfigKey::MetadataEndpoint),
    (
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        AmazonS3ConfigKey::MetadataEndpoint,
    ),
];

#[cfg(test)]
mod tests;
