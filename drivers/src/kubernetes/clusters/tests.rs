use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::Clusters;
use crate::{
    job::RunKey,
    kubernetes::{ClusterConfig, connection::Cluster},
};

/// A cluster that nobody asks anything.
async fn cluster(server: &str) -> Cluster {
    let block = ClusterConfig {
        config: json!({
            "apiVersion": "v1", "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        }),
        context_name: "x".to_owned(),
    };
    Cluster::of_block(&block).await.expect("it is a kubeconfig")
}

fn ids(clusters: &[Arc<Cluster>]) -> Vec<&str> {
    clusters.iter().map(|one| one.id.as_str()).collect()
}

#[tokio::test]
async fn an_attempt_is_looked_for_where_it_was_asked_for_and_nowhere_else() {
    let clusters = Clusters::of_home(cluster("http://home:1").await);
    let (there, is_new) = clusters.learn(cluster("http://there:1").await);
    assert!(is_new);
    let key = RunKey {
        flow_run: Uuid::from_u128(1),
        attempt: 1,
    };
    assert_eq!(
        ids(&clusters.of(key)),
        ["http://home:1/", "http://there:1/"]
    );
    clusters.expect(key, &clusters.home());
    assert_eq!(ids(&clusters.of(key)), ["http://home:1/"]);
    clusters.expect(key, &there);
    assert_eq!(ids(&clusters.of(key)), ["http://there:1/"]);
    clusters.forget(key);
    assert_eq!(clusters.of(key).len(), 2);
}

#[tokio::test]
async fn newer_credentials_take_the_place_of_older_but_for_the_workers_own() {
    let clusters = Clusters::of_home(cluster("http://home:1").await);
    let (first, _) = clusters.learn(cluster("http://there:1").await);
    let (second, is_new) = clusters.learn(cluster("http://there:1").await);
    assert!(!is_new && !Arc::ptr_eq(&first, &second));
    let found = clusters.find("http://there:1/").expect("it is known");
    assert!(Arc::ptr_eq(&found, &second));
    let (home, is_new) = clusters.learn(cluster("http://home:1").await);
    assert!(!is_new && Arc::ptr_eq(&home, &clusters.home()));
}
