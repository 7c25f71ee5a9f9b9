//! Where clusters are and how they are reached: `KUBECONFIG`, the service account of the pod we run in, or the kubeconfig of whoever runs us; and
//! the clusters that blocks in job configurations name.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use tokio::time::Instant;

use super::{
    ENGINE, act, lock,
    options::ClusterConfig,
    sight::{Refusal, Sight},
};
use crate::driver::DriverError;

/// How the worker's own cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// As the service account of the pod that we run in.
    InCluster,
    /// As these kubeconfig files say, of which the first to say something wins.
    Kubeconfig(Vec<PathBuf>),
}

/// One cluster, and what we know of our rights there.
pub(super) struct Cluster {
    /// What it is called in handles.
    pub(super) id: String,
    /// For what is answered at once.
    pub(super) control: Client,
    /// For watches, which the cluster ends now and then by itself.
    pub(super) watches: Client,
    /// For output, which may be silent for long.
    pub(super) output: Client,
    /// What we may see of it.
    sight: Arc<Mutex<Sight>>,
}

/// The deadline of a request that is answered at once.
pub(super) const CONTROL_LIMIT: Duration = Duration::from_secs(20);
/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// After how long the cluster is asked to end a watch that we then begin anew where it ended.
pub(super) const WATCH_TURN: Duration = Duration::from_secs(25);
/// How long a watch may say nothing at all, not even that it ends, before we take it for dead.
const WATCH_SILENCE: Duration = Duration::from_secs(40);
/// How long output may say nothing before we ask whether the connection is alive, by making a new one.
const OUTPUT_SILENCE: Duration = Duration::from_mins(5);

/// Where Kubernetes puts a pod's own identity.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

// === impl Access ===

impl Access {
    /// What these environment variables and the files they lead to name. Who sets `KUBECONFIG` means it; else a pod is in its own cluster.
    pub fn find(environment: &BTreeMap<String, String>) -> Self {
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        if let Some(paths) = set("KUBECONFIG") {
            return Self::Kubeconfig(std::env::split_paths(paths).collect());
        }
        if set("KUBERNETES_SERVICE_HOST").is_some() && Path::new(TOKEN).exists() {
            return Self::InCluster;
        }
        let home = environment.get("HOME").map_or("", String::as_str);
        Self::Kubeconfig(vec![Path::new(home).join(".kube/config")])
    }

    async fn config(&self) -> Result<Config, DriverError> {
        let paths = match self {
            Self::InCluster => {
                return Config::incluster()
                    .map_err(|error| invalid("the pod's service account", &error));
            }
            Self::Kubeconfig(paths) => paths,
        };
        let mut merged = None;
        for path in paths.iter().filter(|path| path.exists()) {
            let next = Kubeconfig::read_from(path)
                .map_err(|error| invalid(&path.display().to_string(), &error))?;
            merged = Some(match merged {
                None => next,
                Some(before) => Kubeconfig::merge(before, next)
                    .map_err(|error| invalid("KUBECONFIG", &error))?,
            });
        }
        let Some(kubeconfig) = merged else {
            let paths: Vec<_> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            return Err(DriverError::Invalid {
                field: "KUBECONFIG".to_owned(),
                reason: format!(
                    "there is no kubeconfig at {}; set KUBECONFIG, or run this worker in the cluster",
                    paths.join(" or ")
                ),
            });
        };
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|error| invalid("KUBECONFIG", &error))
    }
}

// === impl Cluster ===

impl Cluster {
    /// The worker's own. `namespaces`: where to look for jobs in any case; empty: everywhere we may.
    pub(super) async fn home(access: &Access, namespaces: &[String]) -> Result<Self, DriverError> {
        let config = access.config().await?;
        let cluster = Self::of(&config)?;
        if !namespaces.is_empty() {
            cluster.sight().narrow_to(namespaces);
        }
        Ok(cluster)
    }

    /// One that a block names.
    pub(super) async fn of_block(block: &ClusterConfig) -> Result<Self, DriverError> {
        const FIELD: &str = "cluster_config";
        // What does not fit quotes what it found, and that may be a credential.
        let unreadable = || DriverError::Invalid {
            field: format!("{FIELD}.config"),
            reason: "it is not a kubeconfig".to_owned(),
        };
        let kubeconfig = match &block.config {
            serde_json::Value::String(text) => Kubeconfig::from_yaml(text).ok(),
            config => serde_json::from_value(config.clone()).ok(),
        };
        let options = KubeConfigOptions {
            context: Some(block.context_name.clone()),
            ..KubeConfigOptions::default()
        };
        let kubeconfig = kubeconfig.ok_or_else(unreadable)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|error| invalid(FIELD, &error))?;
        Self::of(&config)
    }

    fn of(config: &Config) -> Result<Self, DriverError> {
        let client = |limit: Duration| {
            let mut config = config.clone();
            config.connect_timeout = Some(CONNECT_LIMIT);
            config.read_timeout = Some(limit);
            config.write_timeout = Some(CONTROL_LIMIT);
            // Who asks decides when to ask again, and says meanwhile why it waits.
            config.default_retry = false;
            Client::try_from(config).map_err(|error| DriverError::Unavailable {
                engine: ENGINE,
                reason: super::error::message(&error),
            })
        };
        Ok(Self {
            id: config.cluster_url.to_string(),
            control: client(CONTROL_LIMIT)?,
            watches: client(WATCH_SILENCE)?,
            output: client(OUTPUT_SILENCE)?,
            sight: Arc::new(Mutex::new(Sight::all_or(&config.default_namespace))),
        })
    }

    /// Whether there is a cluster that answers, whatever it says, but that it does not know us.
    ///
    /// # Errors
    /// [`DriverError::Unavailable`]: nobody answered who is one.
    pub(super) async fn answers(&self) -> Result<(), DriverError> {
        match act::bounded(self.control.apiserver_version()).await {
            Err(error) if super::error::status(&error).is_some_and(|it| it.code != 401) => Ok(()),
            Ok(_) => Ok(()),
            Err(error) => Err(DriverError::Unavailable {
                engine: ENGINE,
                reason: format!(
                    "the cluster at {}, which cluster_config names, does not answer: {}",
                    self.id,
                    super::error::message(&error)
                ),
            }),
        }
    }

    /// The same cluster by newer credentials: what one learns of it the other knows.
    pub(super) fn in_place_of(self, known: &Self) -> Self {
        Self {
            sight: Arc::clone(&known.sight),
            ..self
        }
    }

    /// What we may see of it.
    pub(super) fn sight(&self) -> MutexGuard<'_, Sight> {
        lock(&self.sight)
    }

    /// We may not look there, as the cluster says.
    pub(super) fn forbid(&self, scope: Option<&str>, said: &str) -> Refusal {
        let refusal = self.sight().forbid(scope, said, Instant::now());
        match (refusal, scope) {
            (Refusal::Accepted(true), None) => tracing::info!(
                cluster = self.id,
                "this worker may not see all namespaces; it looks into those of its jobs"
            ),
            (Refusal::Accepted(true), Some(namespace)) => tracing::warn!(
                cluster = self.id,
                namespace,
                reason = said,
                "this worker may not see jobs and pods of this namespace, and does not look there"
            ),
            (Refusal::GivenUp, _) => tracing::error!(
                cluster = self.id,
                namespace = scope,
                reason = said,
                "this worker could not see its jobs in this namespace for ten minutes, and does not look there any more; what runs there stays as it was last seen"
            ),
            (Refusal::Accepted(false) | Refusal::Surprise, _) => {}
        }
        refusal
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn invalid(field: &str, error: &dyn std::error::Error) -> DriverError {
    DriverError::Invalid {
        field: field.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
