//! Lists of pull steps, each run by the reference's own step runner and by ours: the same tree, outputs and errors come of both, except
//! where a case says that they differ, how, and why. A difference that is said and is none fails, as does one that nobody has said.
//!
//! `corpus/cases.yaml` has the cases, `tests/servers/steps.py` runs the reference, and `world` is what both find: servers and files.

mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as _,
    fmt::Write as _,
    path::Path,
    sync::Mutex,
};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value};
use worker_config::{step_list, template::Lookups};
use worker_pull::steps::{Level, Outside, Pulled, Runner, Shell, Step, StepFailed};

use self::world::{Theirs, World};

/// A list of steps and what is known of it. Texts may have `@NAME@` of the world in them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(rename = "case")]
    name: String,
    steps: Value,
    /// Files that are there before.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// Both fail, and say this; or each says its own; or only one fails.
    error: Option<Failure>,
    /// We leave the list to the job, and say this.
    left: Option<String>,
    /// Outputs that differ: theirs, ours.
    #[serde(default)]
    outputs: BTreeMap<String, (Value, Value)>,
    /// Files that only one has, or that differ. `*` is any number of them.
    #[serde(default)]
    tree: TreeDifference,
    /// Why something differs.
    why: Option<String>,
    /// The words of a program that differ from one time to the next.
    #[serde(default)]
    ignore_outputs: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Failure {
    Same(String),
    Own {
        reference: Option<String>,
        ours: Option<String>,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TreeDifference {
    ours: Vec<String>,
    reference: Vec<String>,
    changed: Vec<String>,
}

/// What a list came to.
#[derive(Debug, Default)]
struct Result {
    outputs: Map<String, Value>,
    /// Where the step stands that failed, and why it did.
    error: Option<(usize, String)>,
    /// Where the code is.
    directory: String,
    tree: Tree,
}

/// Every file, link and directory with its mode and content, git's own aside.
type Tree = BTreeMap<String, String>;

/// The environment of one case.
struct Told<'a> {
    environment: &'a BTreeMap<String, String>,
    said: Mutex<Vec<String>>,
}

#[async_trait]
impl Outside for Told<'_> {
    async fn tell(&self, _level: Level, message: String) {
        self.said.lock().expect("whole").push(message);
    }

    fn environment(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_of_steps_comes_to_what_the_reference_makes_of_it() {
    let world = World::make().await;
    let text = include_str!("corpus/cases.yaml");
    let cases: Vec<Case> =
        serde_saphyr::from_str(&world.fill(text)).expect("the corpus can be read");
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let order: Vec<Value> = cases
        .iter()
        .enumerate()
        .map(|(number, case)| world.order(number, &case.name, &case.steps, &case.files))
        .collect();
    let theirs = world.reference(order).await;
    assert_eq!(theirs.len(), cases.len(), "the reference answers for each");
    let mut wrong = String::new();
    let mut differing = 0;
    for (number, case) in cases.iter().enumerate() {
        let theirs = result_of(&theirs[&case.name], &world.place("reference", number));
        let place = world.place("ours", number);
        let mut found = Vec::new();
        match ours(&world, &place, case).await {
            Ok(ours) => found = case.judge(&theirs, &ours),
            Err(unsupported) => match &case.left {
                Some(words) if unsupported.contains(words.as_str()) => {}
                _ => found.push(format!("we leave it to the job: {unsupported}")),
            },
        }
        if !found.is_empty() {
            writeln!(wrong, "{}:\n    {}", case.name, found.join("\n    ")).expect("text");
        }
        differing += usize::from(case.differs());
    }
    assert!(wrong.is_empty(), "{wrong}");
    let same = cases.len() - differing;
    assert!(same >= 100, "only {same} of {} are the same", cases.len());
}

/// Runs the steps as a workspace's, beginning where the reference begins: in the directory of the case. The error is why they are left to the job.
async fn ours(world: &World, place: &Path, case: &Case) -> std::result::Result<Result, String> {
    let written = step_list::parse(&case.steps.to_string()).expect("a list");
    let steps: Vec<Step> = written
        .iter()
        .map(|step| Step::parse(step, true))
        .collect::<std::result::Result<_, _>>()
        .map_err(|unsupported| unsupported.to_string())?;
    let mut lookups = Lookups::default();
    for step in &steps {
        let missing = lookups.missing(step.references());
        lookups.extend(world.look_up(&missing).await);
    }
    let environment = world.environment();
    let told = Told {
        environment: &environment,
        said: Mutex::default(),
    };
    let shell = Shell {
        environment: environment.clone(),
        python: Some(world::python()),
    };
    let runner = Runner {
        git: &world.git,
        terms: &world.desk.terms,
        operation: &world.desk.operation,
        outside: &told,
        lookups: &lookups,
        shell: Some(&shell),
        base: place,
        workspace: place,
    };
    let ran = runner.run(&steps).await;
    Ok(Result::of(ran, place))
}

fn result_of(theirs: &Theirs, place: &Path) -> Result {
    Result {
        outputs: relative(theirs.outputs.clone(), place),
        error: theirs
            .error
            .as_ref()
            .map(|error| (error.index, error.text.clone())),
        directory: theirs.directory.clone(),
        tree: tree(&place.join("../..")),
    }
    .located(place)
}

// === impl Result ===

impl Result {
    fn of(ran: std::result::Result<Pulled, StepFailed>, place: &Path) -> Self {
        let tree = tree(&place.join("../.."));
        let ran = match ran {
            Ok(pulled) => Self {
                outputs: relative(pulled.outputs, place),
                error: None,
                directory: pulled
                    .directory
                    .unwrap_or_else(|| place.to_owned())
                    .display()
                    .to_string(),
                tree,
            },
            Err(failed) => Self {
                error: Some((failed.index, chain(&failed))),
                tree,
                ..Self::default()
            },
        };
        ran.located(place)
    }

    /// With the place of the case called `@CWD@`, so that two of them can be compared.
    fn located(mut self, place: &Path) -> Self {
        let place = std::fs::canonicalize(place).expect("it is there");
        let directory = std::fs::canonicalize(&self.directory).unwrap_or_default();
        self.directory = match directory.strip_prefix(&place) {
            Ok(below) => format!("@CWD@/{}", below.display()),
            Err(_) => directory.display().to_string(),
        };
        self
    }
}

// === impl Case ===

impl Case {
    fn differs(&self) -> bool {
        self.why.is_some() || self.left.is_some()
    }

    /// What is not as the case says.
    fn judge(&self, theirs: &Result, ours: &Result) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(words) = &self.left {
            wrong.push(format!("it is not left to the job, with '{words}'"));
        }
        self.judge_errors(theirs, ours, &mut wrong);
        self.judge_outputs(theirs, ours, &mut wrong);
        self.judge_trees(theirs, ours, &mut wrong);
        let both = theirs.error.is_none() && ours.error.is_none();
        if both && theirs.directory != ours.directory {
            wrong.push(format!(
                "the code is in {} and, with us, in {}",
                theirs.directory, ours.directory
            ));
        }
        let one_sided = theirs.error.is_some() != ours.error.is_some();
        let said = !self.outputs.is_empty() || !self.tree.is_empty() || one_sided;
        if said != self.why.is_some() {
            wrong.push("what differs needs a reason, and only that".to_owned());
        }
        wrong
    }

    fn judge_errors(&self, theirs: &Result, ours: &Result, wrong: &mut Vec<String>) {
        let (reference, own) = match &self.error {
            None => (None, None),
            Some(Failure::Same(words)) => (Some(words), Some(words)),
            Some(Failure::Own { reference, ours }) => (reference.as_ref(), ours.as_ref()),
        };
        for (who, expected, result) in [("reference", reference, theirs), ("ours", own, ours)] {
            match (expected, &result.error) {
                (None, None) => {}
                (Some(words), Some((_, said))) if said.contains(words.as_str()) => {}
                (_, said) => wrong.push(format!("error of {who}: {expected:?} is {said:?}")),
            }
        }
        if let (Some((theirs, _)), Some((ours, _))) = (&theirs.error, &ours.error)
            && theirs != ours
        {
            wrong.push(format!("step {theirs} fails and, with us, step {ours}"));
        }
        if let (Some(Failure::Own { .. }), Some(reference), Some((_, said))) =
            (&self.error, reference, &ours.error)
            && said.contains(reference.as_str())
        {
            wrong.push("the errors have the same words".to_owned());
        }
    }

    fn judge_outputs(&self, theirs: &Result, ours: &Result, wrong: &mut Vec<String>) {
        // What failed has no outputs, as the error says.
        if self.ignore_outputs || ours.error.is_some() {
            return;
        }
        let keys: BTreeSet<&String> = theirs.outputs.keys().chain(ours.outputs.keys()).collect();
        let mut differing = BTreeMap::new();
        for key in keys {
            let pair = (
                theirs.outputs.get(key).cloned().unwrap_or_default(),
                ours.outputs.get(key).cloned().unwrap_or_default(),
            );
            if pair.0 != pair.1 {
                differing.insert(key.clone(), pair);
            }
        }
        if differing != self.outputs {
            wrong.push(format!("outputs differ in {differing:?}"));
        }
    }

    fn judge_trees(&self, theirs: &Result, ours: &Result, wrong: &mut Vec<String>) {
        let only = |one: &Tree, other: &Tree| -> Vec<String> {
            let names = one.keys().filter(|name| !other.contains_key(*name));
            names.cloned().collect()
        };
        let changed = theirs
            .tree
            .iter()
            .filter(|(name, content)| ours.tree.get(*name).is_some_and(|ours| ours != *content))
            .map(|(name, _)| name.clone())
            .collect();
        for (what, expected, found) in [
            (
                "only the reference has",
                &self.tree.reference,
                only(&theirs.tree, &ours.tree),
            ),
            (
                "only we have",
                &self.tree.ours,
                only(&ours.tree, &theirs.tree),
            ),
            ("both have, differently:", &self.tree.changed, changed),
        ] {
            let fits = if *expected == ["*"] {
                !found.is_empty()
            } else {
                *expected == found
            };
            if !fits {
                let details: Vec<_> = found
                    .iter()
                    .map(|name| (name, theirs.tree.get(name), ours.tree.get(name)))
                    .collect();
                wrong.push(format!("{what} {details:?}"));
            }
        }
    }
}

// === impl TreeDifference ===

impl TreeDifference {
    fn is_empty(&self) -> bool {
        self.ours.is_empty() && self.reference.is_empty() && self.changed.is_empty()
    }
}

// === functions ===

fn chain(error: &StepFailed) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        write!(text, ": {source}").expect("text can be written");
        cause = source.source();
    }
    text
}

/// The same with the place of the case called `@CWD@`.
fn relative(outputs: Map<String, Value>, place: &Path) -> Map<String, Value> {
    let place = place.display().to_string();
    let text = Value::Object(outputs).to_string();
    serde_json::from_str(&text.replace(&place, "@CWD@")).expect("it was JSON")
}

fn tree(root: &Path) -> Tree {
    fn walk(root: &Path, directory: &Path, found: &mut Tree) {
        use std::os::unix::fs::PermissionsExt as _;

        let entries = std::fs::read_dir(directory).expect("a directory");
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.file_name().is_some_and(|name| name == ".git") {
                continue;
            }
            let name = path.strip_prefix(root).expect("below").display();
            let kind = path.symlink_metadata().expect("it is there");
            let mode = kind.permissions().mode() & 0o111;
            let what = if kind.is_symlink() {
                format!(
                    "-> {}",
                    std::fs::read_link(&path).expect("a link").display()
                )
            } else if kind.is_dir() {
                walk(root, &path, found);
                "directory".to_owned()
            } else {
                let content = std::fs::read(&path).expect("a file");
                format!("{mode:o} {:?}", String::from_utf8_lossy(&content))
            };
            found.insert(name.to_string(), what);
        }
    }
    let root = std::fs::canonicalize(root).expect("it is there");
    let mut found = Tree::new();
    walk(&root, &root, &mut found);
    found
}
