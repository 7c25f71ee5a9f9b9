//! What a look at an engine finds, for people: [`crate::Driver::examine`] answers with these.

use serde::Serialize;
use serde_json::Value;

/// What is to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Examination<'a> {
    /// The pool's base job template, which says where jobs go.
    pub template: &'a Value,
    /// An image to ask its registry for. None: no registry is asked.
    pub image: Option<&'a str>,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub what: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen, and what to do.
    pub detail: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Flow runs of some sort will not work, or not as well as they could.
    Warning,
    /// Flow runs will not work.
    Problem,
}

// === impl Examination ===

impl Examination<'_> {
    /// The default that the pool gives a job variable.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        let path = format!("/variables/properties/{name}/default");
        self.template.pointer(&path)?.as_str()
    }
}

// === impl Finding ===

impl Finding {
    /// Something that is as it should be.
    pub fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(what, Verdict::Ok, detail)
    }

    /// Something that may not do for each flow run.
    pub fn warning(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(what, Verdict::Warning, detail)
    }

    /// Something with which no flow run will work.
    pub fn problem(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(what, Verdict::Problem, detail)
    }

    fn new(what: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            verdict,
            detail: detail.into(),
        }
    }
}
