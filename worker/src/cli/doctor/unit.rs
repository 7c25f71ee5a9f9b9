//! `worker doctor --unit UNIT`: whether a systemd unit lets its worker do what it promises. What systemd says is read here, and judged purely.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Parser;
use nix::unistd::User;

use worker_config::{DriverKind, settings::Flags};
use worker_drivers::Finding;

use super::super::{args, context, credentials};

/// What is looked at, in findings.
const WHAT: &str = "unit";

/// What systemd is asked for.
const PROPERTIES: [&str; 24] = [
    "ActiveState",
    "ControlGroup",
    "Delegate",
    "Environment",
    "EnvironmentFiles",
    "ExecMainStatus",
    "ExecStart",
    "KillMode",
    "LoadCredential",
    "LoadState",
    "NRestarts",
    "NeedDaemonReload",
    "PrivateTmp",
    "Restart",
    "RestartPreventExitStatus",
    "Result",
    "SendSIGKILL",
    "StateDirectory",
    "StatusText",
    "SupplementaryGroups",
    "Type",
    "User",
    "WatchdogUSec",
    "WorkingDirectory",
];

/// Variables that hold a secret.
const SECRETS: [&str; 2] = ["PREFECT_API_KEY=", "PREFECT_API_AUTH_STRING="];

/// Where credentials are that a unit loads by name. Only root may look.
const CREDENTIALS: &str = "/etc/credstore";

/// A unit as systemd has it.
#[derive(Debug)]
pub(super) struct Unit {
    name: String,
    properties: BTreeMap<String, String>,
    /// What systemd gives to every unit.
    inherited: BTreeMap<String, String>,
    /// Which controllers the groups within its own have. None: it has no group of version 2.
    controllers: Option<String>,
}

/// Asks systemd for a unit. A name without an ending is that of a service.
///
/// # Errors
/// Why it could not be asked, for a person.
pub(super) fn read(name: &str) -> Result<Unit, String> {
    let properties = PROPERTIES.join(",");
    let shown = ask(&["show", "--no-pager", "--property", &properties, "--", name])?;
    let inherited = ask(&["show-environment"])?;
    let mut unit = Unit::parse(name, &shown);
    unit.inherited = inherited.lines().filter_map(assignment).collect();
    let group = format!("/sys/fs/cgroup{}", unit.get("ControlGroup"));
    unit.controllers = fs::read_to_string(group + "/cgroup.subtree_control").ok();
    Ok(unit)
}

fn ask(arguments: &[&str]) -> Result<String, String> {
    let asked = Command::new("systemctl")
        .args(arguments)
        .output()
        .map_err(|error| format!("systemctl: {error}; is this a machine with systemd?"))?;
    if !asked.status.success() {
        let said = String::from_utf8_lossy(&asked.stderr);
        let asked = arguments.join(" ");
        return Err(format!("systemctl {asked}: {}", said.trim()));
    }
    Ok(String::from_utf8_lossy(&asked.stdout).into_owned())
}

// === impl Unit ===

impl Unit {
    fn parse(name: &str, shown: &str) -> Self {
        let mut properties = BTreeMap::<String, String>::new();
        for (key, value) in shown.lines().filter_map(|line| line.split_once('=')) {
            // A list is one line for each of its entries.
            let all = properties.entry(key.to_owned()).or_default();
            if !all.is_empty() {
                all.push(' ');
            }
            all.push_str(value);
        }
        Self {
            name: name.to_owned(),
            properties,
            inherited: BTreeMap::new(),
            controllers: None,
        }
    }

    fn get(&self, property: &str) -> &str {
        self.properties.get(property).map_or("", String::as_str)
    }

    /// Some systemds (252) only say that there is something.
    fn loads_credentials(&self) -> bool {
        !self.get("LoadCredential").is_empty()
    }

    /// What its command line says. None: it is not one of a worker.
    pub(super) fn flags(&self) -> Option<Flags> {
        let command = self.get("ExecStart").split("argv[]=").nth(1)?;
        let words = shlex::split(command.split(" ;").next()?)?;
        let environment = self.environment();
        let words: Vec<_> = words
            .iter()
            .flat_map(|word| filled(word, &environment))
            .collect();
        // A program before it may have set something up.
        let ours = |word: &String| Path::new(word).file_name() == Some("worker".as_ref());
        let begins = words.iter().position(ours)?;
        let cli = args::Cli::try_parse_from(&words[begins..]).ok()?;
        let start = match cli.command {
            None => cli.start,
            Some(args::Command::Start(start)) => *start,
            Some(_) => return None,
        };
        Some(context::flags(&cli.global, &start))
    }

    /// Where its worker begins.
    pub(super) fn directory(&self) -> PathBuf {
        let path = self.get("WorkingDirectory").trim_start_matches(['!', '-']);
        Path::new("/").join(path)
    }

    /// All that its worker finds in its environment, as far as whoever asks may read it.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let mut found = self.inherited.clone();
        let user = User::from_name(self.get("User")).ok().flatten();
        found.extend(user.map(|user| ("HOME".to_owned(), user.dir.display().to_string())));
        let words = shlex::split(self.get("Environment")).unwrap_or_default();
        found.extend(words.iter().filter_map(|word| assignment(word)));
        let files = self.get("EnvironmentFiles").split(' ');
        let files = files.filter(|path| path.starts_with('/'));
        for text in files.filter_map(|path| fs::read_to_string(path).ok()) {
            found.extend(text.lines().filter_map(assignment));
        }
        let state = self.get("StateDirectory");
        if !state.is_empty() {
            found.insert("STATE_DIRECTORY".to_owned(), format!("/var/lib/{state}"));
        }
        for (name, path) in self.credential_files() {
            if let (Some(variable), Ok(value)) =
                (credentials::variable(name), fs::read_to_string(path))
            {
                let value = value.trim_end_matches(['\r', '\n']).to_owned();
                found.entry(variable.to_owned()).or_insert(value);
            }
        }
        if self.loads_credentials() && fs::read_dir(CREDENTIALS).is_ok() {
            found.insert("CREDENTIALS_DIRECTORY".to_owned(), CREDENTIALS.to_owned());
        }
        found
    }

    /// Credentials whose file the unit names.
    fn credential_files(&self) -> impl Iterator<Item = (&str, &str)> {
        let loaded = self.get("LoadCredential").split(' ');
        loaded.filter_map(|one| one.split_once(':'))
    }

    /// What is wrong with it for workers of these types.
    pub(super) fn judge(&self, kinds: &[DriverKind]) -> Vec<Finding> {
        if self.get("LoadState") != "loaded" {
            let detail = format!(
                "{} is {}; see deploy/systemd",
                self.name,
                self.get("LoadState")
            );
            return vec![Finding::problem(WHAT, detail)];
        }
        let mut findings = vec![self.state()];
        findings.extend(self.supervision());
        findings.extend(self.secrets());
        if self.flags().is_none() {
            findings.push(Finding::warning(
                WHAT,
                "its ExecStart is not understood as a command of worker; --pool NAME says which pool to look at",
            ));
        }
        if kinds.contains(&DriverKind::Process) {
            findings.extend(self.for_processes());
        }
        if kinds.contains(&DriverKind::Docker) {
            findings.extend(self.for_docker());
        }
        findings
    }

    fn state(&self) -> Finding {
        let (state, result) = (self.get("ActiveState"), self.get("Result"));
        let said = match self.get("StatusText") {
            "" => String::new(),
            text => format!(": {text}"),
        };
        let seen = format!("{} is {state}{said}", self.name);
        match (state, result) {
            ("failed", _) => Finding::problem(
                WHAT,
                format!(
                    "{seen} ({result}, exit code {}); `journalctl --unit {}` says why",
                    self.get("ExecMainStatus"),
                    self.name
                ),
            ),
            _ if self.get("NeedDaemonReload") == "yes" => {
                let advice = "its files have changed since; run `systemctl daemon-reload`";
                Finding::warning(WHAT, format!("{seen}; {advice}"))
            }
            _ => Finding::ok(WHAT, format!("{seen}; restarts: {}", self.get("NRestarts"))),
        }
    }

    /// Whether systemd hears of the worker, and starts it again.
    fn supervision(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let kind = self.get("Type");
        if !kind.starts_with("notify") {
            findings.push(Finding::warning(
                WHAT,
                format!("Type={kind}: it counts as started before its pool was polled, and says nothing of what it does; set Type=notify"),
            ));
        }
        if matches!(self.get("WatchdogUSec"), "0" | "" | "infinity") {
            findings.push(Finding::warning(
                WHAT,
                "no watchdog: a worker whose loop does not turn is not started anew; set WatchdogSec=60",
            ));
        }
        let restart = self.get("Restart");
        if !["always", "on-failure", "on-abnormal"].contains(&restart) {
            findings.push(Finding::warning(
                WHAT,
                format!("Restart={restart}: a worker that ends stays away; set Restart=always"),
            ));
        } else if !self
            .get("RestartPreventExitStatus")
            .split(' ')
            .any(|it| it == "78")
        {
            findings.push(Finding::warning(
                WHAT,
                "settings that are wrong are tried again for ever; set RestartPreventExitStatus=2 78",
            ));
        }
        findings
    }

    fn secrets(&self) -> Vec<Finding> {
        let environment = self.get("Environment");
        let mut findings = Vec::new();
        for secret in SECRETS {
            if environment.contains(secret) {
                let name = secret.trim_end_matches('=');
                findings.push(Finding::warning(
                    WHAT,
                    format!("{name} is in its Environment, which everybody on this machine may read; set LoadCredential= instead"),
                ));
            }
        }
        if findings.is_empty() && self.loads_credentials() {
            findings.push(Finding::ok(
                WHAT,
                "the API's key may be a credential of its own (LoadCredential)",
            ));
        }
        findings
    }

    /// Jobs are processes below the unit, and have to outlive the worker.
    fn for_processes(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let drop_in = "the drop-in subprocess.conf of deploy/systemd does";
        let mode = self.get("KillMode");
        if !["process", "none"].contains(&mode) {
            findings.push(Finding::problem(
                WHAT,
                format!("KillMode={mode}: each restart of the worker ends its jobs; set KillMode=process, as {drop_in}"),
            ));
        }
        if self.get("SendSIGKILL") == "yes" && mode == "process" {
            findings.push(Finding::warning(
                WHAT,
                format!("SendSIGKILL=yes: a stop that takes too long ends jobs, too; set it to no, as {drop_in}"),
            ));
        }
        if self.get("PrivateTmp") == "yes" {
            findings.push(Finding::warning(
                WHAT,
                format!("PrivateTmp=yes: a restart takes /tmp from jobs that run; set it to no, as {drop_in}"),
            ));
        }
        findings.push(if self.get("Delegate") == "yes" {
            Finding::ok(
                WHAT,
                format!(
                    "jobs get cgroups of their own (Delegate=yes){}",
                    self.accounting()
                ),
            )
        } else {
            Finding::warning(
                WHAT,
                format!("Delegate=no: jobs get no cgroups of their own, so what one leaves behind is harder to end; set it to yes, as {drop_in}"),
            )
        });
        findings
    }

    /// What the kernel counts in the groups of jobs. Nothing is said of a unit that does not run: accounting is off meanwhile.
    fn accounting(&self) -> &'static str {
        match &self.controllers {
            Some(names) if self.get("ActiveState") == "active" => {
                if names.split_whitespace().any(|name| name == "memory") {
                    ", with their memory accounted"
                } else {
                    "; their memory is not accounted here, so a job that is ended for lack of it is told as killed"
                }
            }
            _ => "",
        }
    }

    fn for_docker(&self) -> Vec<Finding> {
        let remote = self.environment().contains_key("DOCKER_HOST");
        let in_group = self.get("SupplementaryGroups").contains("docker");
        if remote || in_group {
            return Vec::new();
        }
        vec![Finding::warning(
            WHAT,
            "its user is not in the group docker, so it reaches this machine's engine only as root; the drop-in docker.conf of deploy/systemd lets it in",
        )]
    }
}

/// What systemd makes of a word of a command. `$NAME` as a whole word becomes the words of its value, as many as they are; `${NAME}` is filled in
/// where it stands, once. What is not set is empty, and `$$` is a dollar sign.
fn filled(word: &str, environment: &BTreeMap<String, String>) -> Vec<String> {
    let value = |name: &str| environment.get(name).map_or("", String::as_str);
    if let Some(name) = word.strip_prefix('$')
        && !name.starts_with(['{', '$'])
    {
        let words = value(name);
        let split = || words.split_whitespace().map(str::to_owned).collect();
        return shlex::split(words).unwrap_or_else(split);
    }
    let (mut done, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        let braced = after.strip_prefix('{').and_then(|it| it.split_once('}'));
        if let Some((name, behind)) = braced {
            done.push_str(value(name));
            rest = behind;
        } else {
            done.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    done.push_str(rest);
    vec![done]
}

/// A line of a file of variables, or a word of a list of them.
fn assignment(text: &str) -> Option<(String, String)> {
    let text = text.trim();
    if text.starts_with(['#', ';']) {
        return None;
    }
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    let within = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    let plain = within('"').or_else(|| within('\'')).unwrap_or(value);
    Some((name.trim().to_owned(), plain.to_owned()))
}

#[cfg(test)]
mod tests;
