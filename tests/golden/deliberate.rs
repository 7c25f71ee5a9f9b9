//! Where our job is meant to differ from the reference's, and why. A case that is listed here and does not differ is an error.

use worker_config::DriverKind;

use crate::corpus::Common;

/// Cases of one reason.
pub(crate) struct Deliberate {
    /// The kind of pool; none: all of them.
    kind: Option<DriverKind>,
    /// The beginnings of the cases' names.
    cases: &'static [&'static str],
    /// Why it is so.
    pub(crate) reason: &'static str,
}

/// All of them.
pub(crate) const DELIBERATE: &[Deliberate] = &[
    Deliberate {
        kind: None,
        cases: &["placeholders/odd-ref"],
        reason: "a `$ref` that is not an object is plain data; the reference asks it for a key and raises",
    },
    Deliberate {
        kind: None,
        cases: &["environment/impossible-name", "dotted/impossible-name"],
        reason: "a variable without a name, or with `=` or a null character in it, is refused with its name; the reference lets the engine refuse the job, or makes another variable of it",
    },
    Deliberate {
        kind: None,
        cases: &["hostile/odd-schema"],
        reason: "a variable whose schema is not an object has no default; the reference raises",
    },
    Deliberate {
        kind: Some(DriverKind::Kubernetes),
        cases: &["kubernetes/env-list-no-texts"],
        reason: "a number in a list of variables is written as a text, as it is in an object; the cluster would refuse the reference's job",
    },
    Deliberate {
        kind: Some(DriverKind::Kubernetes),
        cases: &["kubernetes/cluster-text"],
        reason: "a kubeconfig that is the text of a file stays one until it is used",
    },
];

#[test]
fn each_of_them_is_about_some_case() {
    let common = Common::read();
    let kinds = [
        DriverKind::Process,
        DriverKind::Docker,
        DriverKind::Kubernetes,
    ];
    let cases = kinds.map(|kind| (kind, common.cases(kind)));
    for Deliberate {
        kind,
        cases: names,
        reason,
    } in DELIBERATE
    {
        for name in *names {
            let mut met = cases
                .iter()
                .filter(|(one, _)| kind.is_none_or(|kind| kind == *one));
            let met = met.any(|(_, cases)| cases.iter().any(|case| case.name.starts_with(name)));
            assert!(met, "{name} is about no case: {reason}");
        }
    }
}

// === impl Deliberate ===

impl Deliberate {
    /// Whether it speaks of that case.
    pub(crate) fn is_about(&self, kind: DriverKind, name: &str) -> bool {
        self.kind.is_none_or(|one| one == kind)
            && self.cases.iter().any(|case| name.starts_with(case))
    }
}
