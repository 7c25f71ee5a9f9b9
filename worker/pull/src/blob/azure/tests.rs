use serde_json::{Map, Value, json};

use super::{Azure, Login};
use crate::blob::inputs::Inputs;

fn azure(credentials: Value) -> Azure {
    let map: Map<String, Value> = serde_json::from_value(credentials).expect("a mapping");
    Azure::new("c", Inputs::new(&map)).expect("good")
}

#[test]
fn a_connection_string_says_account_address_and_key() {
    let found = azure(json!({"connection_string":
        "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5PT0=;EndpointSuffix=core.chinacloudapi.cn"}));
    assert_eq!(
        (found.account.as_str(), found.endpoint.as_str()),
        ("acc", "https://acc.blob.core.chinacloudapi.cn")
    );
    assert!(matches!(found.login, Login::Key(key) if key.expose() == "a2V5PT0="));
    let found = azure(
        json!({"connection_string": "BlobEndpoint=https://acc.blob.core.windows.net/;SharedAccessSignature=?sv=1&sig=a%3D"}),
    );
    assert_eq!(
        (found.account.as_str(), found.endpoint.as_str()),
        ("acc", "https://acc.blob.core.windows.net")
    );
    assert!(
        matches!(found.login, Login::Signature(signature) if signature.expose() == "sv=1&sig=a%3D")
    );
    assert_eq!(
        azure(json!({"connection_string": "UseDevelopmentStorage=true"})).account,
        "devstoreaccount1"
    );
}

#[test]
fn an_account_url_may_carry_a_signature_or_need_an_application() {
    let found = azure(json!({"account_url": "https://acc.blob.core.windows.net/?sv=1&sig=x"}));
    assert_eq!(found.endpoint, "https://acc.blob.core.windows.net");
    assert!(matches!(found.login, Login::Signature(_)));
    let trio = json!({"account_url": "https://acc.blob.core.windows.net", "tenant_id": "t", "client_id": "i", "client_secret": "s"});
    assert!(matches!(azure(trio).login, Login::Application { .. }));
    assert!(matches!(
        azure(json!({"account_url": "https://acc.blob.core.windows.net"})).login,
        Login::Default
    ));
}
