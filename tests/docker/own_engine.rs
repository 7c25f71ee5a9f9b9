//! An engine of one test's own, which it may stop, start again and fill up.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use worker_tests::files;

/// An engine that ends with the test, with all that it has.
pub(crate) struct OwnEngine {
    folder: TempDir,
    options: Vec<&'static str>,
}

// === impl OwnEngine ===

impl OwnEngine {
    /// An engine with these options of dockerd's.
    pub(crate) fn start(options: &[&'static str]) -> Self {
        let engine = Self {
            // A socket's path may be no longer than 107 bytes.
            folder: TempDir::with_prefix_in("engine-", "/tmp").expect("there is room"),
            options: options.to_vec(),
        };
        engine.start_again();
        engine
    }

    /// An engine with this much room for images and containers: `48m`.
    pub(crate) fn start_small(room: &str) -> Self {
        let engine = Self {
            folder: TempDir::with_prefix_in("engine-", "/tmp").expect("there is room"),
            options: Vec::new(),
        };
        let data = engine.data();
        std::fs::create_dir(&data).expect("there is room");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={room}"), "tmpfs"])
            .arg(&data)
            .status()
            .expect("mount is installed");
        assert!(mounted.success(), "root may mount");
        engine.start_again();
        engine
    }

    /// Gives one with little room more of it.
    pub(crate) fn make_room(&self, room: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,size={room}")])
            .arg(self.data())
            .status();
        assert!(status.expect("mount is installed").success());
    }

    pub(crate) fn start_again(&self) {
        let output = self
            .script("start")
            .args(&self.options)
            .output()
            .expect("bash is installed");
        assert!(output.status.success(), "{output:?}");
    }

    /// Ends it as a machine does that is shut down.
    pub(crate) fn stop(&self) {
        let status = self.script("stop").status().expect("bash is installed");
        assert!(status.success());
    }

    pub(crate) fn host(&self) -> String {
        format!(
            "unix://{}",
            self.folder.path().join("docker.sock").display()
        )
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = Command::new(files::root().join("tests/docker/engine"));
        command
            .arg(verb)
            .env("WORKER_TEST_ENGINE_DIR", self.folder.path())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        // What goes on without it has to be ended before it.
        let list = Command::new("sh")
            .args([
                "-c",
                "docker ps --all --quiet | xargs --no-run-if-empty docker rm --force",
            ])
            .env("DOCKER_HOST", self.host())
            .output();
        drop(list);
        drop(self.script("stop").output());
        // One that lets containers live leaves its mount to the next, which lies over ours.
        let unmount = || {
            Command::new("umount")
                .arg("--lazy")
                .arg(self.data())
                .output()
        };
        while unmount().is_ok_and(|output| output.status.success()) {}
    }
}
