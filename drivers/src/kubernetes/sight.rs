//! What of a cluster this worker may see, by what the cluster refuses. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

/// Where to look for what is ours, and where we may not.
#[derive(Debug)]
pub(super) struct Sight {
    wide: Wide,
    /// The namespaces we have to look into where we may not see all, and whether our jobs are surely there.
    namespaces: BTreeMap<String, bool>,
    /// The namespaces where jobs of ours are and we may not look.
    blind: BTreeMap<String, Blind>,
    /// The namespaces of our jobs that were hidden for too long.
    given_up: BTreeSet<String>,
}

/// Whether we may see all namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wide {
    /// We believe so until we hear otherwise.
    Believed,
    /// We have.
    Seen,
    /// We have, and it was refused later, for the first time then.
    Doubted(Instant),
    /// We may not, or shall not.
    No,
}

#[derive(Debug)]
struct Blind {
    /// What the cluster says of it.
    said: String,
    since: Instant,
}

/// What a refusal to show us a place means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Jobs of ours are there, or we could look there before: it is to be tried again.
    Surprise,
    /// Nothing of ours needs to be there, and it is not looked into any more. True: that is news.
    Accepted(bool),
    /// Jobs of ours were there, and for so long nobody let us look that we do not any more.
    GivenUp,
}

/// How long it is doubted that we may not see what we saw. An API server that has just begun does not know yet what it allows.
const DOUBT: Duration = Duration::from_secs(30);

/// How long a namespace of our jobs may be hidden from us. One that was removed is so for ever.
const HIDDEN: Duration = Duration::from_mins(10);

// === impl Sight ===

impl Sight {
    /// All namespaces, and where that is refused, this one.
    pub(super) fn all_or(namespace: &str) -> Self {
        Self {
            wide: Wide::Believed,
            namespaces: [(namespace.to_owned(), false)].into(),
            blind: BTreeMap::new(),
            given_up: BTreeSet::new(),
        }
    }

    /// Looks into these besides, and not into all.
    pub(super) fn narrow_to(&mut self, namespaces: &[String]) {
        let named = namespaces.iter().map(|name| (name.clone(), false));
        self.namespaces.extend(named);
        self.wide = Wide::No;
    }

    /// A job of ours may come to be there: worth a look, as long as nobody minds. True: that is news, and matters.
    pub(super) fn mention(&mut self, namespace: &str) -> bool {
        if self.namespaces.contains_key(namespace) {
            return false;
        }
        self.namespaces.insert(namespace.to_owned(), false);
        self.wide == Wide::No
    }

    /// Remembers where a job of ours is. True: that is news, and matters.
    pub(super) fn learn(&mut self, namespace: &str) -> bool {
        self.given_up.remove(namespace);
        let was = self.namespaces.insert(namespace.to_owned(), true);
        was != Some(true) && self.wide == Wide::No
    }

    /// The same of a job that was made before. It brings back no namespace that was given up.
    pub(super) fn learn_again(&mut self, namespace: &str) -> bool {
        !self.given_up.contains(namespace) && self.learn(namespace)
    }

    /// Where to look for what is ours. None: everywhere.
    pub(super) fn scopes(&self) -> Vec<Option<String>> {
        if self.wide == Wide::No {
            self.namespaces.keys().cloned().map(Some).collect()
        } else {
            vec![None]
        }
    }

    /// The namespaces that this worker has to do with.
    pub(super) fn namespaces(&self) -> Vec<String> {
        self.namespaces.keys().cloned().collect()
    }

    /// Why jobs of ours cannot be seen, where that is for the want of a right.
    pub(super) fn find_blindness(&self) -> Option<String> {
        let (namespace, Blind { said, .. }) = self.blind.first_key_value()?;
        Some(format!(
            "jobs in namespace '{namespace}' cannot be watched: {said}"
        ))
    }

    /// We may look there.
    pub(super) fn see(&mut self, scope: Option<&str>) {
        match scope {
            None => {
                self.blind.clear();
                if self.wide != Wide::No {
                    self.wide = Wide::Seen;
                }
            }
            Some(name) => drop(self.blind.remove(name)),
        }
    }

    /// We may not look there, as the cluster says.
    pub(super) fn forbid(&mut self, scope: Option<&str>, said: &str, now: Instant) -> Refusal {
        let Some(name) = scope else {
            return self.forbid_all(now);
        };
        if self.namespaces.get(name) != Some(&true) {
            return Refusal::Accepted(self.namespaces.remove(name).is_some());
        }
        let blind = self.blind.entry(name.to_owned()).or_insert(Blind {
            said: String::new(),
            since: now,
        });
        said.clone_into(&mut blind.said);
        if now < blind.since + HIDDEN {
            return Refusal::Surprise;
        }
        self.blind.remove(name);
        self.namespaces.remove(name);
        self.given_up.insert(name.to_owned());
        Refusal::GivenUp
    }

    fn forbid_all(&mut self, now: Instant) -> Refusal {
        match self.wide {
            Wide::Seen => {
                self.wide = Wide::Doubted(now);
                Refusal::Surprise
            }
            Wide::Doubted(since) if now < since + DOUBT => Refusal::Surprise,
            was => {
                self.wide = Wide::No;
                Refusal::Accepted(was != Wide::No)
            }
        }
    }
}

#[cfg(test)]
mod tests;
