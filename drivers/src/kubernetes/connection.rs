//! Where clusters are and how they are reached: `KUBECONFIG`, the service account of the pod we run in, or the kubeconfig of whoever runs us; and
//! the clusters that blocks in job configurations name.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::{ENGINE, lock, options::ClusterConfig};
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
    /// Whether we may see all its namespaces. We believe so until we hear otherwise.
    wide: AtomicBool,
    /// The namespaces we have to look into where we may not see all, and whether our jobs are surely there.
    namespaces: Mutex<BTreeMap<String, bool>>,
    /// The namespaces where jobs of ours are and we may not look, with what the cluster says of that.
    blind: Mutex<BTreeMap<String, String>>,
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
        let mut known = lock(&cluster.namespaces);
        known.extend(namespaces.iter().map(|name| (name.clone(), false)));
        cluster.wide.store(namespaces.is_empty(), Ordering::Relaxed);
        drop(known);
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
            wide: AtomicBool::new(true),
            namespaces: Mutex::new([(config.default_namespace.clone(), false)].into()),
            blind: Mutex::default(),
        })
    }

    /// Remembers where a job of ours is. True: that is news, and matters.
    pub(super) fn learn(&self, namespace: &str) -> bool {
        let was = lock(&self.namespaces).insert(namespace.to_owned(), true);
        was != Some(true) && !self.wide.load(Ordering::Relaxed)
    }

    /// Where to look for what is ours. None: everywhere.
    pub(super) fn scopes(&self) -> Vec<Option<String>> {
        if self.wide.load(Ordering::Relaxed) {
            return vec![None];
        }
        let known = lock(&self.namespaces);
        known.keys().cloned().map(Some).collect()
    }

    /// The namespaces that this worker has to do with.
    pub(super) fn namespaces(&self) -> Vec<String> {
        lock(&self.namespaces).keys().cloned().collect()
    }

    /// Why jobs of ours cannot be seen, where that is for the want of a right.
    pub(super) fn find_blindness(&self) -> Option<String> {
        let blind = lock(&self.blind);
        let (namespace, said) = blind.first_key_value()?;
        Some(format!(
            "jobs in namespace '{namespace}' cannot be watched: {said}"
        ))
    }

    /// We may look there after all.
    pub(super) fn see(&self, scope: Option<&str>) {
        let mut blind = lock(&self.blind);
        match scope {
            None => blind.clear(),
            Some(name) => drop(blind.remove(name)),
        }
    }

    /// We may not look there, as the cluster says. False: and that is no surprise, as nothing of ours is known to be there.
    pub(super) fn forbid(&self, scope: Option<&str>, said: &str) -> bool {
        match scope {
            None => {
                if self.wide.swap(false, Ordering::Relaxed) {
                    tracing::info!(
                        cluster = self.id,
                        "this worker may not see all namespaces; it looks into those of its jobs"
                    );
                }
                false
            }
            Some(name) => {
                let mut known = lock(&self.namespaces);
                let needed = known.get(name) == Some(&true);
                if needed {
                    lock(&self.blind).insert(name.to_owned(), said.to_owned());
                } else if known.remove(name).is_some() {
                    tracing::warn!(
                        cluster = self.id,
                        namespace = name,
                        reason = said,
                        "this worker may not see jobs and pods of this namespace, and does not look there"
                    );
                }
                needed
            }
        }
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
