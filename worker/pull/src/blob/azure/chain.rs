//! What Azure's own tools would find: an application of the environment, a workload's identity, the machine's, a person's.
//!
//! `object_store` knows each of them and chooses one; here they are tried in turn, as `DefaultAzureCredential` does.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::{
    CredentialProvider,
    azure::{AzureCredential, AzureCredentialProvider},
};

use super::Azure;
use crate::blob::{
    ambient::Ambient,
    fault::{Fault, Kind},
    transport,
};

/// Several who may be asked; the first that has an answer is asked from then on.
#[derive(Debug)]
struct Chain {
    providers: Vec<AzureCredentialProvider>,
    chosen: tokio::sync::OnceCell<AzureCredentialProvider>,
}

// === impl Chain ===

#[async_trait]
impl CredentialProvider for Chain {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        let chosen = self.chosen.get_or_try_init(async || {
            for provider in &self.providers {
                if provider.get_credential().await.is_ok() {
                    return Ok(Arc::clone(provider));
                }
            }
            let reason = "no Azure credentials were found: none in the step or the environment, the machine has no identity, and nobody is logged in with `az`";
            Err(Fault::new(Kind::Denied, reason))
        });
        chosen.await?.get_credential().await
    }
}

// === functions ===

/// Who asks, by what the machine has.
pub(super) fn provider(
    azure: &Azure,
    ambient: &Arc<Ambient>,
    client: &reqwest::Client,
) -> Result<AzureCredentialProvider, Fault> {
    let find = |name: &str| ambient.find(name);
    let (tenant, id) = (find("AZURE_TENANT_ID"), find("AZURE_CLIENT_ID"));
    let authority = find("AZURE_AUTHORITY_HOST");
    let builder = |client: &reqwest::Client| {
        let builder = azure.builder(client);
        match &authority {
            Some(host) => builder.with_authority_host(host),
            None => builder,
        }
    };
    if let (Some(tenant), Some(id), Some(secret)) = (&tenant, &id, find("AZURE_CLIENT_SECRET")) {
        return Azure::credentials_of(
            builder(client).with_client_secret_authorization(id, secret, tenant),
        );
    }
    if let (Some(tenant), Some(id), Some(file)) = (&tenant, &id, find("AZURE_FEDERATED_TOKEN_FILE"))
    {
        let builder = builder(client).with_client_id(id).with_tenant_id(tenant);
        return Azure::credentials_of(builder.with_federated_token_file(file));
    }
    let mut machine = builder(&transport::neighbour()?);
    if let Some(id) = &id {
        machine = machine.with_client_id(id);
    }
    if let Some(endpoint) = find("IDENTITY_ENDPOINT").or_else(|| find("MSI_ENDPOINT")) {
        machine = machine.with_msi_endpoint(endpoint);
    }
    let person = builder(client).with_use_azure_cli(true);
    let providers = vec![
        Azure::credentials_of(machine)?,
        Azure::credentials_of(person)?,
    ];
    Ok(Arc::new(Chain {
        providers,
        chosen: tokio::sync::OnceCell::new(),
    }))
}
