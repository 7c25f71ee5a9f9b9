//! `prefect.yaml`: a project's deployments, as types.
//!
//! Reads what `prefect deploy` of the reference reads (3.8.8), with one difference: what is wrong is said with file, line and
//! key, and nothing of the file is used; the reference goes on as if the file were empty. Placeholders stay as they are
//! written, and what the steps mean is left to whoever runs them.

mod fields;
mod node;
mod schedule;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Map, Value};

use self::fields::{Fields, Reader};
pub use self::schedule::{Schedule, Timing};

/// One step: its fully qualified name with its inputs, as `{"prefect.deployments.steps.git_clone": {…}}`.
pub type Step = Map<String, Value>;

/// A `prefect.yaml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The project's name.
    pub name: Option<String>,
    /// Steps before deployments are made, for entries that have none of their own.
    pub build: Steps,
    /// Steps after `build`, likewise.
    pub push: Steps,
    /// Steps before each flow run, likewise.
    pub pull: Steps,
    /// The deployments, in the order they are written.
    pub deployments: Vec<DeploymentEntry>,
    /// What people should know: keys that nobody reads, with the nearest one that somebody does.
    pub notices: Vec<String>,
}

/// Steps, in which absent, null and none are three things.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Steps {
    /// The key is not there.
    #[default]
    Absent,
    /// The key is there, without a value or with `{}`. For `pull` it asks for the default steps.
    Null,
    /// The key is there with a list, which may be empty. A single step counts as a list of one.
    Listed(Vec<Step>),
}

/// One deployment of a `prefect.yaml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeploymentEntry {
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What the version is, as `prefect:simple` or `vcs:git`.
    pub version_type: Option<String>,
    /// Tags. A text instead of a list, which must be a template for one, is a list of that text.
    pub tags: Vec<String>,
    /// What it is for.
    pub description: Option<String>,
    /// When it runs. None: the file says nothing; empty: not by itself.
    pub schedules: Option<Vec<Schedule>>,
    /// Whether its schedules are held.
    pub paused: Option<bool>,
    /// How many of its flow runs may run at once.
    pub concurrency_limit: Option<ConcurrencyLimit>,
    /// The flow's name, where the code does not say it.
    pub flow_name: Option<String>,
    /// Where the flow is in the code: `flows.py:hello` or `pkg.mod.hello`.
    pub entrypoint: Option<String>,
    /// Default parameters.
    pub parameters: Map<String, Value>,
    /// Whether the server checks parameters against the flow's schema.
    pub enforce_parameter_schema: Option<bool>,
    /// Its own build steps.
    pub build: Steps,
    /// Its own push steps.
    pub push: Steps,
    /// Its own pull steps.
    pub pull: Steps,
    /// Where it runs.
    pub work_pool: Option<WorkPoolEntry>,
    /// Automations, as they are written.
    pub triggers: Vec<Map<String, Value>>,
    /// Service level agreements, as they are written.
    pub sla: Vec<Map<String, Value>>,
    /// The line it begins at, counted from 1.
    pub line: u64,
}

/// Where a deployment runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkPoolEntry {
    /// The work pool.
    pub name: Option<String>,
    /// The work queue in it.
    pub work_queue_name: Option<String>,
    /// Job variables that fill the pool's template.
    pub job_variables: Map<String, Value>,
}

/// How many flow runs of a deployment may run at once, and what happens to one more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConcurrencyLimit {
    /// How many.
    pub limit: Option<u32>,
    /// What happens to one more.
    pub collision_strategy: Option<CollisionStrategy>,
    /// How long a slot is held for a flow run that was claimed and has not started.
    pub grace_period: Option<Duration>,
}

/// What happens to a flow run for which there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollisionStrategy {
    /// It waits.
    Enqueue,
    /// It is cancelled.
    CancelNew,
}

/// One thing that is wrong in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The line, counted from 1, if it is known.
    pub line: Option<u64>,
    /// The key, as `deployments[0].work_pool.name`; empty for the file as a whole.
    pub key: String,
    /// What would be right.
    pub problem: String,
}

/// Everything that is wrong in a manifest, at once; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestErrors {
    /// The file.
    pub file: PathBuf,
    /// What is wrong in it.
    pub errors: Vec<ManifestError>,
}

// === impl Manifest ===

impl Manifest {
    /// Reads a file.
    ///
    /// # Errors
    /// Everything that is wrong, or that the file cannot be read.
    pub fn read(file: &Path) -> Result<Self, ManifestErrors> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            let problem = format!("cannot be read: {error}");
            ManifestErrors::one(file, None, problem)
        })?;
        Self::parse(file, &text)
    }

    /// Reads a text; `file` is only named in errors.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ManifestErrors> {
        let root = node::parse(text)
            .map_err(|(line, problem)| ManifestErrors::one(file, line, problem))?;
        let mut reader = Reader::default();
        let manifest = reader
            .fields(root, "")
            .map(|fields| manifest(fields, &mut reader));
        let Reader {
            mut errors,
            mut notices,
        } = reader;
        errors.sort_by_key(|error| error.line);
        notices.sort_by_key(|(line, _)| *line);
        match manifest {
            Some(manifest) if errors.is_empty() => {
                let place = |(line, notice)| format!("{}:{line}: {notice}", file.display());
                let notices = notices.into_iter().map(place).collect();
                Ok(Self {
                    notices,
                    ..manifest
                })
            }
            _ => Err(ManifestErrors {
                file: file.to_owned(),
                errors,
            }),
        }
    }

    /// The build steps that count for an entry: its own if its key is there, else the file's. None: nobody says.
    pub fn build_steps<'a>(&'a self, entry: &'a DeploymentEntry) -> Option<&'a [Step]> {
        entry.build.or(&self.build)
    }

    /// The push steps that count for an entry. The reference runs the file's even when the entry's are empty.
    pub fn push_steps<'a>(&'a self, entry: &'a DeploymentEntry) -> Option<&'a [Step]> {
        entry.push.or(&self.push)
    }

    /// The pull steps that count for an entry. None: the default ones are to be made. The reference takes the file's when the
    /// entry's key is null.
    pub fn pull_steps<'a>(&'a self, entry: &'a DeploymentEntry) -> Option<&'a [Step]> {
        entry.pull.or(&self.pull)
    }
}

// === impl Steps ===

impl Steps {
    /// The steps, if there is a list of them.
    pub fn listed(&self) -> Option<&[Step]> {
        match self {
            Self::Absent | Self::Null => None,
            Self::Listed(steps) => Some(steps),
        }
    }

    fn or<'a>(&'a self, below: &'a Self) -> Option<&'a [Step]> {
        match self {
            Self::Absent => below.listed(),
            Self::Null | Self::Listed(_) => self.listed(),
        }
    }
}

// === impl ManifestErrors ===

impl ManifestErrors {
    fn one(file: &Path, line: Option<u64>, problem: String) -> Self {
        let key = String::new();
        Self {
            file: file.to_owned(),
            errors: vec![ManifestError { line, key, problem }],
        }
    }
}

impl fmt::Display for ManifestErrors {
    /// `prefect.yaml:12: deployments[0].name: must be a text`, one error a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ManifestError { line, key, problem }) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some(line) = line {
                write!(f, "{line}:")?;
            }
            if !key.is_empty() {
                write!(f, " {key}:")?;
            }
            write!(f, " {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestErrors {}

/// Unknown keys are fine here: that is where people keep their anchors.
fn manifest(mut fields: Fields, reader: &mut Reader) -> Manifest {
    let deployments = match fields.take("deployments") {
        Some(node) => reader.list(node, &fields.key("deployments")),
        None => Vec::new(),
    };
    let entry = |(index, node)| {
        let key = format!("deployments[{index}]");
        reader
            .fields(node, &key)
            .map(|fields| deployment(fields, reader))
    };
    let deployments = deployments
        .into_iter()
        .enumerate()
        .filter_map(entry)
        .collect();
    // Prefect wants a text here, but nothing reads it, and everybody writes a number.
    fields.take("prefect-version");
    Manifest {
        name: fields.text("name", reader),
        build: fields.steps("build", reader),
        push: fields.steps("push", reader),
        pull: fields.steps("pull", reader),
        deployments,
        notices: Vec::new(),
    }
}

fn deployment(mut fields: Fields, reader: &mut Reader) -> DeploymentEntry {
    let entry = DeploymentEntry {
        line: fields.line,
        name: fields.text("name", reader),
        version: fields.text("version", reader),
        version_type: fields.text("version_type", reader),
        tags: fields.texts("tags", reader),
        description: fields.text("description", reader),
        schedules: schedule::schedules(&mut fields, reader),
        paused: fields.flag("paused", reader),
        concurrency_limit: concurrency_limit(&mut fields, reader),
        flow_name: fields.text("flow_name", reader),
        entrypoint: fields.text("entrypoint", reader),
        parameters: fields.object("parameters", reader),
        enforce_parameter_schema: fields.flag("enforce_parameter_schema", reader),
        build: fields.steps("build", reader),
        push: fields.steps("push", reader),
        pull: fields.steps("pull", reader),
        work_pool: fields
            .nested("work_pool", reader)
            .map(|fields| work_pool(fields, reader)),
        triggers: fields.objects("triggers", reader),
        sla: fields.objects("sla", reader),
    };
    fields.notice_unknown(reader);
    entry
}

fn work_pool(mut fields: Fields, reader: &mut Reader) -> WorkPoolEntry {
    let entry = WorkPoolEntry {
        name: fields.text("name", reader),
        work_queue_name: fields.text("work_queue_name", reader),
        job_variables: fields.object("job_variables", reader),
    };
    fields.notice_unknown(reader);
    entry
}

/// A number alone, or a mapping.
fn concurrency_limit(fields: &mut Fields, reader: &mut Reader) -> Option<ConcurrencyLimit> {
    const KEY: &str = "concurrency_limit";
    if !fields.is_mapping(KEY) {
        let limit = fields.count(KEY, reader)?;
        return Some(ConcurrencyLimit {
            limit: Some(limit),
            ..ConcurrencyLimit::default()
        });
    }
    let mut fields = fields.nested(KEY, reader)?;
    let line = fields.line;
    let collision_strategy = match fields.text("collision_strategy", reader).as_deref() {
        None => None,
        Some("ENQUEUE") => Some(CollisionStrategy::Enqueue),
        Some("CANCEL_NEW") => Some(CollisionStrategy::CancelNew),
        Some(_) => {
            reader.wrong(
                line,
                fields.key("collision_strategy"),
                "must be ENQUEUE or CANCEL_NEW",
            );
            None
        }
    };
    let grace_period = fields.count("grace_period_seconds", reader);
    if grace_period.is_some_and(|seconds| !(60..=86_400).contains(&seconds)) {
        reader.wrong(
            line,
            fields.key("grace_period_seconds"),
            "must be from 60 to 86400 seconds",
        );
    }
    let limit = ConcurrencyLimit {
        limit: fields.count("limit", reader),
        collision_strategy,
        grace_period: grace_period.map(|seconds| Duration::from_secs(seconds.into())),
    };
    fields.notice_unknown(reader);
    Some(limit)
}

#[cfg(test)]
mod tests;
