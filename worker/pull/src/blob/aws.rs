//! Who asks S3: keys, profiles, roles and what the machine was given, in the order of Amazon's own tools.
//!
//! `object_store` knows environment, web identity, containers and instances, and does those here; profiles, single sign-on, credential
//! programs and roles are in the folder. The crates that have them cost more than they bring: `aws-config` is sixty crates
//! and a TLS of its own, `reqsign` has neither `source_profile` nor another STS address.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use object_store::{
    CredentialProvider, StaticCredentialProvider,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider},
};
use tokio::sync::Mutex;

use super::{
    ambient::Ambient,
    fault::{Fault, Kind},
    s3::{AMBIENT_KEYS, Keys, Login, once},
    transport::{self, Connector},
};

mod process;
mod profile;
mod role;
mod sso;

pub(super) use profile::Profile;
pub(super) use role::role_parameters;

/// Where a bucket is that nobody says anything about.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

/// Credentials are fetched anew this long before they end.
const MARGIN: SignedDuration = SignedDuration::from_secs(120);

/// What is told when the whole chain has ended.
const NOBODY: &str = "no credentials were found: none in the step, the environment or a profile, and no container or instance lends any";

/// How many profiles may lead to one another; Amazon's tools refuse a circle only.
const MAX_PROFILES: usize = 8;

/// What it takes to ask for credentials.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) ambient: Arc<Ambient>,
    pub(super) client: reqwest::Client,
    pub(super) region: String,
}

/// Credentials, and when they end.
pub(super) struct Lent {
    key_id: String,
    secret_key: String,
    token: Option<String>,
    until: Option<Timestamp>,
}

/// Gets credentials that end.
#[async_trait]
trait Lender: fmt::Debug + Send + Sync {
    async fn lend(&self) -> Result<Lent, Fault>;
}

/// Keeps what a lender gave until shortly before it ends.
#[derive(Debug)]
struct Kept<L> {
    lender: L,
    present: Mutex<Option<(Arc<AwsCredential>, Option<Timestamp>)>>,
}

/// Instance metadata, which simply does not answer where there is none.
#[derive(Debug)]
struct Instance(AwsCredentialProvider);

// === impl Kept ===

#[async_trait]
impl<L: Lender> CredentialProvider for Kept<L> {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut present = self.present.lock().await;
        if let Some((credential, until)) = &*present
            && until.is_none_or(|until| Timestamp::now() < until - MARGIN)
        {
            return Ok(Arc::clone(credential));
        }
        let Lent {
            key_id,
            secret_key,
            token,
            until,
        } = self.lender.lend().await?;
        let credential = Arc::new(AwsCredential {
            key_id,
            secret_key,
            token,
        });
        *present = Some((Arc::clone(&credential), until));
        Ok(credential)
    }
}

// === impl Instance ===

#[async_trait]
impl CredentialProvider for Instance {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let found = self.0.get_credential().await;
        found.map_err(|_| Fault::new(Kind::Denied, NOBODY).into())
    }
}

// === functions ===

/// Who asks, by what the step says and else by the machine.
pub(super) fn provider(
    login: &Login,
    profile: &Profile,
    asker: Asker,
) -> Result<AwsCredentialProvider, Fault> {
    let base = if let Some(keys) = &login.keys {
        fixed(keys)
    } else if login.profile.is_some() {
        of_profile(profile, &asker, MAX_PROFILES)?.ok_or_else(|| profile.has_nothing())?
    } else {
        of_machine(profile, &asker)?
    };
    let Some(role) = &login.role else {
        return Ok(base);
    };
    Ok(kept(role::Assume::new(base, role.clone(), asker)))
}

fn of_machine(profile: &Profile, asker: &Asker) -> Result<AwsCredentialProvider, Fault> {
    let find = |name: &str| asker.ambient.find(name);
    if let (Some(id), Some(secret)) = (find("AWS_ACCESS_KEY_ID"), find("AWS_SECRET_ACCESS_KEY")) {
        let credential = AwsCredential {
            key_id: id,
            secret_key: secret,
            token: find("AWS_SESSION_TOKEN"),
        };
        return Ok(Arc::new(StaticCredentialProvider::new(credential)));
    }
    if let (Some(file), Some(arn)) = (find("AWS_WEB_IDENTITY_TOKEN_FILE"), find("AWS_ROLE_ARN")) {
        return web_identity(&file, &arn, find("AWS_ROLE_SESSION_NAME"), asker);
    }
    if let Some(provider) = of_profile(profile, asker, MAX_PROFILES)? {
        return Ok(provider);
    }
    of_surroundings(asker)
}

/// What a profile says; nothing if it says nothing of credentials.
fn of_profile(
    profile: &Profile,
    asker: &Asker,
    hops: usize,
) -> Result<Option<AwsCredentialProvider>, Fault> {
    if let Some(arn) = profile.find("role_arn") {
        if let Some(file) = profile.find("web_identity_token_file") {
            return web_identity(&file, &arn, profile.find("role_session_name"), asker).map(Some);
        }
        let base = match (
            profile.find("source_profile"),
            profile.find("credential_source"),
        ) {
            // A profile may be its own source: then it has keys as well.
            (Some(source), _) if source == profile.name() => {
                profile.keys().map(|keys| fixed(&keys))
            }
            (Some(source), _) if hops > 0 => {
                let source = Profile::read(&asker.ambient, Some(&source))?;
                of_profile(&source, asker, hops - 1)?
            }
            (None, Some(source)) if source == "Environment" => of_environment(asker),
            (None, Some(_)) => Some(of_surroundings(asker)?),
            _ => None,
        };
        let base = base.ok_or_else(|| profile.has_nothing())?;
        return Ok(Some(kept(role::Assume::new(
            base,
            profile.role(arn),
            asker.clone(),
        ))));
    }
    if let Some(keys) = profile.keys() {
        return Ok(Some(fixed(&keys)));
    }
    if let Some(sign_on) = sso::SignOn::of(profile, asker)? {
        return Ok(Some(kept(sign_on)));
    }
    Ok(process::Program::of(profile).map(kept))
}

fn of_environment(asker: &Asker) -> Option<AwsCredentialProvider> {
    Some(Arc::new(StaticCredentialProvider::new(AwsCredential {
        key_id: asker.ambient.find("AWS_ACCESS_KEY_ID")?,
        secret_key: asker.ambient.find("AWS_SECRET_ACCESS_KEY")?,
        token: asker.ambient.find("AWS_SESSION_TOKEN"),
    })))
}

/// What the container or the instance lends.
fn of_surroundings(asker: &Asker) -> Result<AwsCredentialProvider, Fault> {
    let neighbour = Asker {
        client: transport::neighbour()?,
        ..asker.clone()
    };
    let mut builder = dummy(&neighbour);
    if find_off(asker)
        && AMBIENT_KEYS
            .iter()
            .all(|(name, _)| asker.ambient.find(name).is_none())
    {
        return Err(Fault::new(Kind::Denied, NOBODY));
    }
    for (name, key) in AMBIENT_KEYS {
        if let Some(value) = asker.ambient.find(name) {
            builder = builder.with_config(key, value);
        }
    }
    let provider = credentials_of(builder)?;
    Ok(Arc::new(Instance(provider)))
}

/// Whether the instance must not be asked.
fn find_off(asker: &Asker) -> bool {
    asker
        .ambient
        .find("AWS_EC2_METADATA_DISABLED")
        .is_some_and(|off| off.eq_ignore_ascii_case("true"))
}

fn web_identity(
    file: &str,
    arn: &str,
    session: Option<String>,
    asker: &Asker,
) -> Result<AwsCredentialProvider, Fault> {
    let mut builder = dummy(asker)
        .with_config(
            AmazonS3ConfigKey::WebIdentityTokenFile,
            asker.ambient.expand(file).to_string_lossy(),
        )
        .with_config(AmazonS3ConfigKey::RoleArn, arn)
        .with_config(
            AmazonS3ConfigKey::StsEndpoint,
            role::endpoint(&asker.ambient, &asker.region),
        );
    if let Some(session) = session {
        builder = builder.with_config(AmazonS3ConfigKey::RoleSessionName, session);
    }
    credentials_of(builder)
}

/// A bucket that is never asked: its builder is the way to `object_store`'s credential providers.
fn dummy(asker: &Asker) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_bucket_name("none")
        .with_region(&asker.region)
        .with_retry(once())
        .with_http_connector(Connector(asker.client.clone()))
}

fn credentials_of(builder: AmazonS3Builder) -> Result<AwsCredentialProvider, Fault> {
    let store = builder.build().map_err(|_| {
        Fault::permanent("what the environment says of AWS credentials cannot be used")
    })?;
    Ok(Arc::clone(store.credentials()))
}

fn fixed(keys: &Keys) -> AwsCredentialProvider {
    Arc::new(StaticCredentialProvider::new(AwsCredential {
        key_id: keys.id.expose().to_owned(),
        secret_key: keys.secret.expose().to_owned(),
        token: keys.token.as_ref().map(|token| token.expose().to_owned()),
    }))
}

fn kept(lender: impl Lender + 'static) -> AwsCredentialProvider {
    Arc::new(Kept {
        lender,
        present: Mutex::new(None),
    })
}
