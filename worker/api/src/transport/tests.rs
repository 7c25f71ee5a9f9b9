use url::Host;

use super::{goes_direct, mozilla_roots};

fn direct(host: &str, no_proxy: &str) -> bool {
    let host: Host = Host::parse(host).unwrap();
    let host = match &host {
        Host::Domain(domain) => Host::Domain(domain.as_str()),
        Host::Ipv4(address) => Host::Ipv4(*address),
        Host::Ipv6(address) => Host::Ipv6(*address),
    };
    goes_direct(&host, no_proxy)
}

#[test]
fn loopback_never_takes_a_proxy() {
    for host in ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"] {
        assert!(direct(host, ""), "{host}");
    }
}

#[test]
fn a_starred_entry_of_no_proxy_covers_the_hosts_below_it() {
    let no_proxy = "example.org, *.Corp.internal";
    assert!(direct("prefect.corp.internal", no_proxy));
    assert!(!direct("corp.internal", no_proxy));
    assert!(!direct("prefectcorp.internal", no_proxy));
}

#[test]
fn other_entries_of_no_proxy_are_left_to_the_http_client() {
    assert!(!direct("example.org", "example.org,*"));
    assert!(!direct("10.0.0.1", "10.0.0.0/8"));
}

#[test]
fn the_built_in_certificates_can_be_used() {
    let client = reqwest::Client::builder().tls_certs_only(mozilla_roots());
    drop(rustls::crypto::ring::default_provider().install_default());
    assert!(mozilla_roots().len() > 50);
    client.build().unwrap();
}
