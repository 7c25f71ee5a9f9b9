//! Which files a sparse clone has, as git's cone mode decides it: the directories asked for, and the files directly in each directory above them.

use git2::{ObjectType, Repository, Tree};

/// The directories asked for, without slashes at their ends.
pub(super) struct Cone {
    directories: Vec<String>,
}

// === impl Cone ===

impl Cone {
    /// None: everything is asked for.
    pub(super) fn new(directories: &[String]) -> Option<Self> {
        let directories: Vec<String> = directories
            .iter()
            .map(|directory| {
                let directory = directory.trim_start_matches("./");
                directory.trim_matches('/').to_owned()
            })
            .collect();
        let everything = directories.is_empty()
            || directories
                .iter()
                .any(|directory| matches!(directory.as_str(), "" | "."));
        (!everything).then_some(Self { directories })
    }

    /// The paths that are written: directories as wholes, files by name.
    pub(super) fn paths(
        &self,
        repository: &Repository,
        root: &Tree<'_>,
    ) -> Result<Vec<Vec<u8>>, git2::Error> {
        let mut paths: Vec<Vec<u8>> = Vec::new();
        for above in self.above() {
            let tree = match above.as_str() {
                "" => root.clone(),
                path => match root.get_path(path.as_ref()) {
                    Ok(entry) if entry.kind() == Some(ObjectType::Tree) => {
                        repository.find_tree(entry.id())?
                    }
                    _ => continue,
                },
            };
            for entry in &tree {
                if entry.kind() == Some(ObjectType::Blob) {
                    let mut path = above.clone().into_bytes();
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(entry.name_bytes());
                    paths.push(path);
                }
            }
        }
        let directories = self.directories.iter();
        paths.extend(directories.map(|directory| format!("{directory}/").into_bytes()));
        Ok(paths)
    }

    /// Whether something at a path is written.
    pub(super) fn has(&self, path: &str) -> bool {
        self.directories.iter().any(|directory| {
            path.strip_prefix(directory.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// What git keeps in `info/sparse-checkout`, so that its own commands go on as this began.
    pub(super) fn patterns(&self) -> String {
        let mut lines = vec!["/*".to_owned(), "!/*/".to_owned()];
        for above in self.above().into_iter().filter(|above| !above.is_empty()) {
            lines.push(format!("/{above}/"));
            lines.push(format!("!/{above}/*/"));
        }
        lines.extend(self.directories.iter().map(|one| format!("/{one}/")));
        lines.join("\n") + "\n"
    }

    /// Each directory above one that is asked for, the root first, once.
    fn above(&self) -> Vec<String> {
        let mut above = vec![String::new()];
        for directory in &self.directories {
            for (at, _) in directory.match_indices('/') {
                let parent = &directory[..at];
                if !self.has(parent) {
                    above.push(parent.to_owned());
                }
            }
        }
        above.sort();
        above.dedup();
        above
    }
}

#[cfg(test)]
mod tests;
