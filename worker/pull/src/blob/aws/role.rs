//! Taking on a role: `AssumeRole` of Amazon's token service.

use async_trait::async_trait;
use http::{Method, Request, header};
use jiff::Timestamp;
use object_store::{
    aws::{AwsAuthorizer, AwsCredentialProvider},
    client::{HttpRequestBody, HttpService},
};
use quick_xml::{Reader, events::Event};
use serde_json::Value;
use url::form_urlencoded;
use worker_config::secret::Secret;

use super::{Asker, Lender, Lent};
use crate::blob::{
    SourceError,
    ambient::Ambient,
    fault::{Fault, Kind},
    inputs::Inputs,
    s3::Role,
};

/// One who takes on a role.
#[derive(Debug)]
pub(super) struct Assume {
    base: AwsCredentialProvider,
    role: Role,
    asker: Asker,
}

// === impl Assume ===

impl Assume {
    pub(super) fn new(base: AwsCredentialProvider, role: Role, asker: Asker) -> Self {
        Self { base, role, asker }
    }

    fn form(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", "AssumeRole")
            .append_pair("Version", "2011-06-15");
        form.append_pair("RoleArn", &self.role.arn);
        if !self
            .role
            .parameters
            .iter()
            .any(|(name, _)| name == "RoleSessionName")
        {
            let id = uuid::Uuid::new_v4().simple().to_string();
            form.append_pair("RoleSessionName", &format!("prefect-session-{}", &id[..8]));
        }
        for (name, value) in &self.role.parameters {
            form.append_pair(name, value.expose());
        }
        form.finish()
    }
}

#[async_trait]
impl Lender for Assume {
    async fn lend(&self) -> Result<Lent, Fault> {
        let base = self
            .base
            .get_credential()
            .await
            .map_err(|error| Fault::of_store(&error))?;
        let unusable = || Fault::permanent("the address of the token service cannot be used");
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(endpoint(&self.asker.ambient, &self.asker.region))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(HttpRequestBody::from(self.form()))
            .map_err(|_| unusable())?;
        AwsAuthorizer::new(&base, "sts", &self.asker.region)
            .try_authorize(&mut request, None)
            .map_err(|_| unusable())?;
        let response = HttpService::call(&self.asker.client, request)
            .await
            .map_err(|error| Fault::of_connection(&error))?;
        let (parts, body) = response.into_parts();
        let body = body
            .bytes()
            .await
            .map_err(|error| Fault::of_connection(&error))?;
        if !parts.status.is_success() {
            let fault = Fault::of_answer(parts.status, &parts.headers, &body);
            let reason = format!(
                "the role {} cannot be taken on: {}",
                self.role.arn, fault.reason
            );
            return Err(Fault::new(fault.kind, reason));
        }
        read(&body).ok_or_else(|| Fault::new(Kind::Denied, "the token service gave no credentials"))
    }
}

// === functions ===

/// The address of the token service.
pub(super) fn endpoint(ambient: &Ambient, region: &str) -> String {
    let told = ambient
        .find("AWS_ENDPOINT_URL_STS")
        .or_else(|| ambient.find("AWS_ENDPOINT_URL"));
    told.unwrap_or_else(|| {
        let suffix = if region.starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        format!("https://sts.{region}.{suffix}")
    })
}

/// The block's `assume_role_kwargs` as the service spells them: lists are numbered, mappings in them have their fields appended.
pub(in crate::blob) fn role_parameters(
    kwargs: Inputs<'_>,
) -> Result<Vec<(String, Secret)>, SourceError> {
    let mut parameters = Vec::new();
    for (name, value) in kwargs.entries() {
        if value.is_null() {
            continue;
        }
        if !spell(name, value, &mut parameters) {
            return Err(kwargs.wrong(name, "cannot be told to the token service"));
        }
    }
    Ok(parameters)
}

fn spell(name: &str, value: &Value, into: &mut Vec<(String, Secret)>) -> bool {
    match value {
        Value::String(text) => into.push((name.to_owned(), Secret::new(text.clone()))),
        Value::Number(number) => into.push((name.to_owned(), Secret::new(number.to_string()))),
        Value::Bool(value) => into.push((name.to_owned(), Secret::new(value.to_string()))),
        Value::Null => {}
        Value::Array(items) => {
            return items
                .iter()
                .zip(1..)
                .all(|(item, number)| spell(&format!("{name}.member.{number}"), item, into));
        }
        Value::Object(fields) => {
            return fields
                .iter()
                .all(|(field, value)| spell(&format!("{name}.{field}"), value, into));
        }
    }
    true
}

fn read(body: &[u8]) -> Option<Lent> {
    let mut reader = Reader::from_reader(body);
    let (mut key_id, mut secret_key, mut token, mut until) = (None, None, None, None);
    loop {
        let tag = match reader.read_event().ok()? {
            Event::Start(tag) => tag,
            Event::Eof => break,
            _ => continue,
        };
        let field = match tag.local_name().as_ref() {
            b"AccessKeyId" => &mut key_id,
            b"SecretAccessKey" => &mut secret_key,
            b"SessionToken" => &mut token,
            b"Expiration" => &mut until,
            _ => continue,
        };
        let text = reader.read_text(tag.name()).ok()?;
        *field = Some(
            quick_xml::escape::unescape(&text.decode().ok()?)
                .ok()?
                .into_owned(),
        );
    }
    Some(Lent {
        key_id: key_id?,
        secret_key: secret_key?,
        token,
        until: until.and_then(|until| until.parse::<Timestamp>().ok()),
    })
}
