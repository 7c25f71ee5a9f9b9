//! Somebody who follows a page of the documentation: types its commands in order into one shell, in a fresh home, in a copy of this repository.
//!
//! What stays (`worker --pool`, `worker server`, …) runs on beside what follows, as it would in another terminal. An API at the
//! usual address is one of the reader's own, on another port, with a pool `my-pool`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command as Process, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    files::{copy_of, root},
    page::{Command, Page},
    prefect::free_address,
    program::{Program, Running, end},
    wait,
};

/// The longest that a command may take. A cold Python, or an engine that makes an image, needs most.
const PATIENCE: Duration = Duration::from_mins(5);

/// The address of an API that pages name: Prefect's own, by default.
const USUAL_API: [&str; 2] = ["http://127.0.0.1:4200/api", "https://prefect.example/api"];

/// What stays until it is told to end, and what it says when it is there.
const STAYING: [(&str, &str); 4] = [
    ("cargo run --release -- exec examples/cancel", "second 1 of"),
    ("worker --pool", "started!"),
    ("worker server", "API"),
    ("prefect server start", "Check out the dashboard"),
];

/// What a reader has of this repository.
const CHECKOUT: [&str; 4] = ["config", "deploy", "docs", "examples"];

/// A reader with a machine of their own.
#[derive(Debug)]
pub struct Reader {
    program: PathBuf,
    home: TempDir,
    environment: BTreeMap<String, String>,
    address: SocketAddr,
}

/// A shell that is typed into.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    folder: PathBuf,
    typed: usize,
}

// === impl Reader ===

impl Reader {
    /// A reader who has the program at this path as `worker`.
    ///
    /// # Panics
    ///
    /// When no directory can be made for them.
    pub fn new(program: &str) -> Self {
        let home = TempDir::with_prefix("worker-page-").expect("a temporary directory can be made");
        let bin = home.path().join("bin");
        fs::create_dir_all(home.path().join("home")).expect("a fresh directory is empty");
        fs::create_dir(&bin).expect("a fresh directory is empty");
        std::os::unix::fs::symlink(program, bin.join("worker")).expect("a fresh directory");
        // Who has built the program has `cargo run`, which would build it here once more.
        let cargo =
            "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec worker \"$@\"\n";
        let place = bin.join("cargo");
        fs::write(&place, cargo).expect("a fresh directory");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&place, executable).expect("it was just written");
        let path = std::env::var("PATH").unwrap_or_default();
        let environment = BTreeMap::from([
            (
                "HOME".to_owned(),
                home.path().join("home").display().to_string(),
            ),
            ("PATH".to_owned(), format!("{}:{path}", bin.display())),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("NO_COLOR".to_owned(), "1".to_owned()),
            ("DO_NOT_TRACK".to_owned(), "1".to_owned()),
        ]);
        Self {
            program: PathBuf::from(program),
            home,
            environment,
            address: free_address().expect("loopback has a free port"),
        }
    }

    /// The same reader with one more variable in their environment. A `PATH` is searched after `worker`.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let value = match name {
            "PATH" => format!("{}:{value}", self.home.path().join("bin").display()),
            _ => value.to_owned(),
        };
        self.environment.insert(name.to_owned(), value);
        self
    }

    /// Types every command of a page but those that `skip` names.
    ///
    /// # Panics
    ///
    /// When one does not do what the page says, with what it printed.
    pub fn follow(mut self, page: &Page, skip: impl Fn(&Command) -> bool) {
        let checkout = self.home.path().join("checkout");
        for folder in CHECKOUT {
            copy_of(&root().join(folder), &checkout.join(folder));
        }
        let serves =
            |command: &Command| staying(&command.text).is_some_and(|(it, _)| it.contains("server"));
        let _server = if page.commands.iter().any(serves) {
            for name in ["WORKER_SERVER_PORT", "PREFECT_SERVER_API_PORT"] {
                let port = self.address.port().to_string();
                self.environment.insert(name.to_owned(), port);
            }
            None
        } else {
            Some(self.serve())
        };
        let mut shell = Shell::start(&checkout, &self.environment, self.home.path());
        let mut staying_ones = Vec::new();
        for command in &page.commands {
            if skip(command) {
                continue;
            }
            let place = format!("{}:{}", page.path, command.line);
            let typed = self.typed(&command.text);
            if let Some((_, ready)) = staying(&command.text) {
                let is_ready =
                    |said: &str| said.contains(ready) && command.find_missing(said).is_none();
                staying_ones.push(shell.start_staying(&place, &typed, is_ready));
                continue;
            }
            let (code, printed) = shell.run(&place, &typed);
            assert_eq!(code, command.exit_code(), "{place}: {typed}\n{printed}");
            let missing = command.find_missing(&printed);
            assert_eq!(missing, None, "{place}: {typed} printed\n{printed}");
        }
        drop(staying_ones);
    }

    /// What a page's command is on this machine.
    fn typed(&self, text: &str) -> String {
        let here = format!("http://{}/api", self.address);
        let text = USUAL_API
            .iter()
            .fold(text.to_owned(), |text, usual| text.replace(usual, &here));
        text.trim_end_matches(" &").to_owned()
    }

    /// The API that the reader has already.
    fn serve(&self) -> Running {
        let program = Program::new(&self.program.display().to_string());
        let port = self.address.port().to_string();
        let server = program.start(&["server", "--port", &port]);
        let url = format!("http://{}/api", self.address);
        let create = [
            "--api-url",
            &url,
            "pool",
            "create",
            "my-pool",
            "--type",
            "process",
        ];
        wait::until("the reader's API has a pool", PATIENCE, || {
            let made = program.run(&create);
            if made.code() == 0 { Ok(()) } else { Err(made) }
        });
        server
    }
}

// === impl Shell ===

impl Shell {
    fn start(directory: &Path, environment: &BTreeMap<String, String>, folder: &Path) -> Self {
        let complaints = File::create(folder.join("shell")).expect("the reader's own directory");
        let mut child = Process::new("bash")
            .env_clear()
            .envs(environment)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(complaints)
            .spawn()
            .expect("bash is installed");
        let stdin = child.stdin.take().expect("it was piped");
        Self {
            child,
            stdin,
            folder: folder.to_owned(),
            typed: 0,
        }
    }

    /// Types a command, waits for its end, and gives its exit code and what it printed.
    fn run(&mut self, place: &str, text: &str) -> (i32, String) {
        let [output, code] = self.type_in(text, "{ ", "\n}", "echo $?");
        let seen = || fs::read_to_string(&output).unwrap_or_default();
        let code = wait::until(&format!("{place}: {text} ends"), PATIENCE, || {
            let code = fs::read_to_string(&code).ok();
            code.and_then(|code| code.trim().parse().ok())
                .ok_or_else(seen)
        });
        (code, seen())
    }

    /// Types a command that stays, and waits until it says that it is there.
    fn start_staying(
        &mut self,
        place: &str,
        text: &str,
        is_ready: impl Fn(&str) -> bool,
    ) -> Staying {
        let [output, pid] = self.type_in(text, "( exec ", "\n)", "echo $!");
        let pid = wait::until(&format!("{place}: {text} is started"), PATIENCE, || {
            let pid = fs::read_to_string(&pid).ok();
            pid.and_then(|pid| pid.trim().parse().ok()).ok_or("nothing")
        });
        let staying = Staying(nix::unistd::Pid::from_raw(pid));
        wait::until(&format!("{place}: {text} is ready"), PATIENCE, || {
            let said = fs::read_to_string(&output).unwrap_or_default();
            if is_ready(&said) { Ok(()) } else { Err(said) }
        });
        staying
    }

    /// Types a command in between two brackets, and what tells of it then. Gives the files with what it prints, and with what is told.
    fn type_in(&mut self, text: &str, open: &str, close: &str, tell: &str) -> [PathBuf; 2] {
        self.typed += 1;
        let file = |kind: &str| self.folder.join(format!("{}.{kind}", self.typed));
        let [output, told, half] = [file("output"), file("told"), file("half")];
        let behind = if tell.ends_with('!') { " &" } else { "" };
        let lines = format!(
            "{open}{text}{close} >{output} 2>&1 </dev/null{behind}\n{tell} >{half}; mv {half} {told}\n",
            output = output.display(),
            half = half.display(),
            told = told.display(),
        );
        self.stdin
            .write_all(lines.as_bytes())
            .expect("the shell reads");
        [output, told]
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        end(&mut self.child, Duration::ZERO);
    }
}

/// What stays until it is dropped.
struct Staying(nix::unistd::Pid);

impl Drop for Staying {
    fn drop(&mut self) {
        // A worker with an API of its own waits for its jobs, so it is told three times. It may have gone already.
        for _ in 0..3 {
            nix::sys::signal::kill(self.0, nix::sys::signal::Signal::SIGTERM).ok();
        }
    }
}

/// What a command is like that stays.
fn staying(text: &str) -> Option<(&'static str, &'static str)> {
    let ends = text.contains("--run-once") || text.contains("--help");
    let found = STAYING
        .into_iter()
        .find(|(begins, _)| text.starts_with(begins));
    found.filter(|_| !ends)
}
