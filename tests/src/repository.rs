//! A git repository made on the spot.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A repository with a work tree, on branch `main`. Whoever made its directory removes it.
#[derive(Debug)]
pub struct Repository {
    directory: PathBuf,
}

impl Repository {
    /// Makes an empty repository in a directory that need not exist yet.
    ///
    /// # Panics
    ///
    /// When git cannot be run.
    pub fn create(directory: &Path) -> Self {
        fs::create_dir_all(directory).expect("a directory can be made in the test's own directory");
        let repository = Self {
            directory: directory.to_owned(),
        };
        repository.git(&["init", "--quiet", "--initial-branch", "main"]);
        repository
    }

    /// Where it is, as an absolute path.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a file; one that starts with `#!` can be executed.
    ///
    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn write(&self, path: &str, content: &str) {
        use std::os::unix::fs::PermissionsExt as _;

        let file = self.directory.join(path);
        let parent = file.parent().expect("a file in a repository has a parent");
        fs::create_dir_all(parent).expect("a directory can be made in the test's own directory");
        fs::write(&file, content).expect("a file can be written in the test's own directory");
        if content.starts_with("#!") {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
                .expect("the owner of a file can make it executable");
        }
    }

    /// Commits everything and returns the new commit's full id.
    ///
    /// # Panics
    ///
    /// When git fails.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in the repository, untouched by the settings of whoever runs the tests, and returns what it printed.
    ///
    /// # Panics
    ///
    /// When git fails, with what it said.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(&self.directory)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .args(["-c", "user.name=Test", "-c", "user.email=test@localhost"])
            .args(arguments)
            .output()
            .expect("git is installed");
        assert!(
            output.status.success(),
            "git {arguments:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}
