//! The Kubernetes driver on a real cluster.
//!
//! `WORKER_TEST_KUBECONFIG` or `KUBECONFIG` says where the cluster is. They fail without: who wants them turns on the feature `kubernetes-cluster`.

mod endings;
mod subject;

use subject::KubernetesSubject;

async fn subject() -> KubernetesSubject {
    KubernetesSubject::new().await
}

mod conformance {
    use super::subject;

    worker_drivers::driver_conformance!(subject);
}
