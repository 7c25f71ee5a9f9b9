//! The golden corpus as it is stored, read back: what a case was given, and what the reference made of it.

use std::{collections::BTreeMap, fs};

use serde_json::{Map, Value};
use worker_config::{DriverKind, template::Lookups};
use worker_tests::files::root;

/// The release the corpus was made with.
pub(crate) const RELEASE: &str = "3.8.8";

/// One case, with everything that its line leaves out.
pub(crate) struct Case {
    /// What it is called.
    pub(crate) name: String,
    /// The line's own part of what is given, for who has to look into it.
    pub(crate) said: Value,
    /// All that is given.
    pub(crate) given: Map<String, Value>,
    /// The job, or why there is none.
    pub(crate) expected: Result<Value, String>,
}

/// The parts that cases share.
pub(crate) struct Common(Value);

// === impl Common ===

impl Common {
    /// Reads them.
    pub(crate) fn read() -> Self {
        Self(serde_json::from_str(&text("common.json")).expect("common.json is JSON"))
    }

    /// The image that the reference took where none was named.
    pub(crate) fn default_image(&self) -> &str {
        self.0["release"]["default_image"]
            .as_str()
            .expect("the release names an image")
    }

    /// The cases of one kind of pool.
    pub(crate) fn cases(&self, kind: DriverKind) -> Vec<Case> {
        let lines = text(&format!("{kind}.jsonl"));
        lines.lines().map(|line| self.case(kind, line)).collect()
    }

    fn case(&self, kind: DriverKind, line: &str) -> Case {
        let mut case: Value = serde_json::from_str(line).expect("each line is JSON");
        let said = case["given"].take();
        let mut given = object(&self.0["given"]).clone();
        given.extend(object(&said).clone());
        if let Some(name) = given["template"].as_str() {
            let template = self.0["templates"][name].clone();
            given.insert("template".to_owned(), template);
        }
        let expected = match case.get("error") {
            Some(error) => Err(format!(
                "{}: {}",
                text_of(&error["class"]),
                text_of(&error["message"])
            )),
            None => Ok(rebuilt(&self.0["plain"][kind.as_str()], &case)),
        };
        Case {
            name: text_of(&case["name"]),
            said,
            given,
            expected,
        }
    }
}

// === impl Case ===

impl Case {
    /// What a key of the given holds.
    pub(crate) fn get(&self, key: &str) -> &Value {
        self.given.get(key).unwrap_or(&Value::Null)
    }

    /// A key that holds texts by name.
    pub(crate) fn texts(&self, key: &str) -> BTreeMap<String, String> {
        let texts = object(self.get(key)).iter();
        texts
            .map(|(name, value)| (name.clone(), text_of(value)))
            .collect()
    }

    /// What the server would answer. Everything that is asked for has an answer.
    pub(crate) fn look_up(&self, references: &worker_config::template::References) -> Lookups {
        let blocks = self.get("blocks").as_array().expect("blocks are a list");
        let data = |is_it: &dyn Fn(&Value) -> bool| {
            let block = blocks.iter().find(|block| is_it(block))?;
            Some(object(&block["data"]).clone())
        };
        let mut found = Lookups::default();
        for (slug, name) in &references.blocks {
            let block = data(&|block| block["type"] == **slug && block["name"] == **name);
            found.blocks.insert((slug.clone(), name.clone()), block);
        }
        for id in &references.block_documents {
            let block = data(&|block| block["id"] == **id);
            found.block_documents.insert(id.clone(), block);
        }
        for name in &references.variables {
            let value = self.get("variables").get(name).cloned();
            found.variables.insert(name.clone(), value);
        }
        found
    }
}

/// An object, of a value that is one.
pub(crate) fn object(value: &Value) -> &Map<String, Value> {
    value
        .as_object()
        .expect("the generator writes an object here")
}

/// A text, of a value that is one.
pub(crate) fn text_of(value: &Value) -> String {
    value
        .as_str()
        .expect("the generator writes a text here")
        .to_owned()
}

/// The job again, of which only what differs from the plain one is stored.
fn rebuilt(plain: &Value, stored: &Value) -> Value {
    let mut job = over(plain, &stored["job"]);
    for path in stored["lacks"].as_array().into_iter().flatten() {
        let path = path.as_array().expect("a path is a list");
        let (last, path) = path.split_last().expect("a path leads somewhere");
        let inner = path
            .iter()
            .fold(&mut job, |inner, key| &mut inner[text_of(key)]);
        let inner = inner.as_object_mut().expect("a path leads into an object");
        inner.shift_remove(&text_of(last));
    }
    job
}

fn over(below: &Value, above: &Value) -> Value {
    let (Value::Object(below), Value::Object(above)) = (below, above) else {
        return above.clone();
    };
    let mut both = below.clone();
    for (key, value) in above {
        let value = below
            .get(key)
            .map_or_else(|| value.clone(), |below| over(below, value));
        both.insert(key.clone(), value);
    }
    Value::Object(both)
}

fn text(file: &str) -> String {
    let path = root().join("tests/golden/corpus").join(RELEASE).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
