use std::collections::BTreeMap;

use super::{Access, Cluster};
use crate::kubernetes::{ClusterConfig, DriverError};

fn environment(set: &[(&str, &str)]) -> BTreeMap<String, String> {
    let set = set.iter();
    set.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn who_sets_kubeconfig_means_it() {
    let found = Access::find(&environment(&[
        ("KUBECONFIG", "/a:/b"),
        ("HOME", "/home/ada"),
    ]));
    assert_eq!(found, Access::Kubeconfig(vec!["/a".into(), "/b".into()]));
    let found = Access::find(&environment(&[("HOME", "/home/ada")]));
    assert_eq!(
        found,
        Access::Kubeconfig(vec!["/home/ada/.kube/config".into()])
    );
}

#[tokio::test]
async fn a_kubeconfig_that_is_not_there_is_named() {
    let access = Access::Kubeconfig(vec!["/no/such/file".into()]);
    let error = access.config().await.expect_err("it is not there");
    assert!(error.to_string().contains("/no/such/file"), "{error}");
}

#[tokio::test]
async fn a_block_that_is_no_kubeconfig_is_refused_without_being_quoted() {
    let block = ClusterConfig {
        config: "clusters: canary".into(),
        context_name: "c".to_owned(),
    };
    let error = Cluster::of_block(&block).await.expect_err("it is none");
    assert!(matches!(error, DriverError::Invalid { .. }), "{error:?}");
    assert!(!error.to_string().contains("canary"), "{error}");
}
