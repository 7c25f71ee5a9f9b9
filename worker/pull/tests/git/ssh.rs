//! Over ssh: the OpenSSH client against an OpenSSH server.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use worker_pull::git::{GitError, Reference};

use crate::repository::{Repository, Scene, commit, git, named, request, until};

/// An `sshd` for this user, with a key that may log in and one that may not.
struct Sshd {
    child: Child,
    port: u16,
    keys: PathBuf,
}

// === impl Sshd ===

impl Sshd {
    async fn start(scene: &Scene) -> Self {
        let keys = scene.root.path().join("keys");
        fs::create_dir_all(&keys).unwrap();
        for name in ["host", "right", "wrong"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(keys.join(name))
                .status();
            assert!(made.expect("ssh-keygen is installed").success());
        }
        fs::copy(keys.join("right.pub"), keys.join("authorized")).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let shown = keys.display();
        let config = keys.join("sshd_config");
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {shown}/host\nAuthorizedKeysFile {shown}/authorized\n\
             PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        );
        fs::write(&config, text).unwrap();
        let host = fs::read_to_string(keys.join("host.pub")).unwrap();
        fs::write(
            keys.join("known_hosts"),
            format!("[localhost]:{port} {host}"),
        )
        .unwrap();
        if nix_is_root() {
            // Where the server of root keeps its unprivileged half.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd is installed: tests/run installs it, or your system's openssh-server");
        let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        until(listens).await.expect("sshd listens");
        Self { child, port, keys }
    }

    /// What `ssh` is, with a key and a list of known hosts.
    fn client(&self, key: &str, known_hosts: &str) -> Vec<String> {
        let path = |name: &str| self.keys.join(name).display().to_string();
        let options = [
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            format!("UserKnownHostsFile={}", path(known_hosts)),
            "GlobalKnownHostsFile=none".to_owned(),
        ];
        let mut command: Vec<String> = ["ssh", "-F", "none", "-i"].map(str::to_owned).into();
        command.push(path(key));
        command.extend(options.into_iter().flat_map(|one| ["-o".to_owned(), one]));
        command
    }

    fn url(&self, path: &Path) -> String {
        format!("ssh://localhost:{}{}", self.port, path.display())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_log_in_gets_every_sort_of_reference() {
    let mut scene = Scene::new();
    let code = scene.code();
    let sshd = Sshd::start(&scene).await;
    scene.ssh = sshd.client("right", "known_hosts");
    let url = sshd.url(&code.path);
    let below = code.id("main~1");
    let cases = [
        (Reference::Default, "main"),
        (named("feature/x"), "feature/x"),
        (named("v1"), "v1"),
        (commit(&below), "main~1"),
        (commit(&below[..8]), "main~1"),
    ];
    for (number, (reference, wanted)) in cases.into_iter().enumerate() {
        let name = number.to_string();
        let fetched = scene.fetch(request(&url, reference), &name).await.unwrap();
        assert_eq!(fetched.commit, code.id(wanted), "{wanted}");
        assert_eq!(
            git(&scene.clone_at(&name), &["rev-parse", "HEAD"]),
            code.id(wanted)
        );
        git(&scene.clone_at(&name), &["fsck"]);
    }
    // The short form has no place for a port, so the client is told.
    scene.ssh.extend(["-p".to_owned(), sshd.port.to_string()]);
    let short = format!("localhost:{}", code.path.display());
    let fetched = scene
        .fetch(request(&short, named("main")), "short")
        .await
        .unwrap();
    assert_eq!(fetched.commit, code.id("main"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_apart_and_nobody_is_asked() {
    let mut scene = Scene::new();
    let code = scene.code();
    let sshd = Sshd::start(&scene).await;
    let url = sshd.url(&code.path);
    scene.ssh = sshd.client("wrong", "known_hosts");
    let error = scene
        .fetch(request(&url, Reference::Default), "a")
        .await
        .unwrap_err();
    assert!(
        matches!(error, GitError::Authentication { .. }),
        "{error:?}"
    );
    scene.ssh = sshd.client("right", "nobody_is_known");
    let error = scene
        .fetch(request(&url, Reference::Default), "a")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("host key is not known"),
        "{error}"
    );
    scene.ssh = sshd.client("right", "known_hosts");
    let gone = sshd.url(Path::new("/nowhere/at/all.git"));
    let error = scene
        .fetch(request(&gone, Reference::Default), "a")
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::NotFound { .. }), "{error:?}");
    scene.ssh = vec!["no-such-program".to_owned()];
    let error = scene
        .fetch(request(&url, Reference::Default), "a")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("install OpenSSH's client"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_one_word_to_the_other_side() {
    let mut scene = Scene::new();
    let odd = scene
        .repositories()
        .join("it's $(touch injected); code.git");
    let code = Repository::create(&odd);
    code.write("a.txt", "a");
    let id = code.commit("odd");
    let sshd = Sshd::start(&scene).await;
    scene.ssh = sshd.client("right", "known_hosts");
    scene.ssh.extend(["-p".to_owned(), sshd.port.to_string()]);
    let short = format!("localhost:{}", odd.display());
    let fetched = scene
        .fetch(request(&short, Reference::Default), "a")
        .await
        .unwrap();
    assert_eq!(fetched.commit, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_ends_when_the_fetch_is_cancelled() {
    let mut scene = Scene::new();
    let pid = scene.root.path().join("pid");
    let script = format!("echo $$ > '{}'; exec sleep 600", pid.display());
    scene.ssh = ["sh", "-c", &script].map(str::to_owned).into();
    let cancelled = scene.operation.cancelled.clone();
    let fetching = scene.fetch(request("ssh://localhost/code.git", Reference::Default), "a");
    let cancelling = async {
        let started = || fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n'));
        let waited = until(started).await;
        cancelled.cancel();
        waited.expect("the client starts");
    };
    let (fetched, ()) = tokio::join!(fetching, cancelling);
    assert!(
        matches!(fetched, Err(GitError::Interrupted(_))),
        "{fetched:?}"
    );
    let pid = fs::read_to_string(&pid).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    let gone = until(|| !process.exists()).await;
    gone.expect("the client ends with the fetch");
}

fn nix_is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}
