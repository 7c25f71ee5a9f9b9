//! Who may depend on whom, and who may name which outside crate.

use std::collections::BTreeMap;

use worker_tests::files::root;

use crate::{
    Finding, assert_none,
    tree::{self, SourceFile},
};

/// The dependency line, `config <- api <- server`, `config <- drivers`, `config <- pull`, all of them `<- worker <- tests`: each of our
/// crates with its folder and those of ours that it may use.
const LINE: [(&str, &str, &[&str]); 7] = [
    ("worker-config", "config", &[]),
    ("worker-drivers", "drivers", &["worker-config"]),
    ("worker-api", "worker/api", &["worker-config"]),
    ("worker-pull", "worker/pull", &["worker-config"]),
    (
        "worker-server",
        "worker/server",
        &["worker-api", "worker-config"],
    ),
    (
        "worker",
        "worker",
        &[
            "worker-api",
            "worker-config",
            "worker-drivers",
            "worker-pull",
            "worker-server",
        ],
    ),
    (
        "worker-tests",
        "tests",
        &[
            "worker",
            "worker-api",
            "worker-config",
            "worker-drivers",
            "worker-pull",
            "worker-server",
        ],
    ),
];

/// Outside crates that have a place of their own: a name as it is written in code, and the beginnings of the paths
/// that may write it.
const FENCES: [(&str, &[&str]); 7] = [
    ("bollard", &["drivers/"]),
    ("kube", &["drivers/"]),
    ("k8s_openapi", &["drivers/"]),
    ("git2", &["worker/pull/"]),
    ("object_store", &["worker/pull/"]),
    ("reqwest", &["worker/api/", "worker/pull/"]),
    ("rusqlite", &["worker/server/", "worker/src/journal"]),
];

#[test]
fn crates_depend_on_each_other_in_one_direction_only() {
    for (name, folder, allowed) in LINE {
        let file = format!("{folder}/Cargo.toml");
        let text = read(&file);
        assert_none(&breaks_line(&file, &text, name, allowed));
    }
}

#[test]
fn each_member_of_the_workspace_has_a_place_on_the_line() {
    let manifest = parse("Cargo.toml", &read("Cargo.toml"));
    let members = manifest["workspace"]["members"]
        .as_array()
        .expect("the workspace lists its members");
    for member in members {
        let member = member.as_str().expect("a member is a path");
        assert!(
            LINE.iter().any(|(_, folder, _)| *folder == member),
            "Cargo.toml: {member} has no place on the dependency line in tests/tidy/crates.rs"
        );
    }
}

#[test]
fn outside_crates_are_named_only_where_they_belong() {
    for file in tree::rust() {
        assert_none(&crosses_fence(&file));
    }
}

#[test]
fn outside_crates_are_depended_on_only_where_they_belong() {
    for (_, folder, _) in LINE {
        let file = format!("{folder}/Cargo.toml");
        assert_none(&depends_across_fence(&file, folder, &read(&file)));
    }
}

// === rules ===

/// Which of our crates a manifest uses although it must not.
fn breaks_line(file: &str, text: &str, name: &str, allowed: &[&str]) -> Vec<Finding> {
    dependencies(file, text)
        .into_iter()
        .filter(|(used, _)| LINE.iter().any(|(ours, _, _)| ours == used))
        // A crate may turn on features of its own for its tests.
        .filter(|(used, _)| used != name && !allowed.contains(&used.as_str()))
        .map(|(used, line)| {
            Finding::new(
                file,
                line,
                format!("{name} must not depend on {used}; see the dependency line in tests/tidy/crates.rs"),
            )
        })
        .collect()
}

/// Which fenced crates a manifest depends on although none of its crate's files may name them.
fn depends_across_fence(file: &str, folder: &str, text: &str) -> Vec<Finding> {
    let sources = format!("{folder}/src/");
    dependencies(file, text)
        .into_iter()
        .filter_map(|(used, line)| {
            let code_name = used.replace('-', "_");
            let (_, places) = FENCES.iter().find(|(name, _)| *name == code_name)?;
            let at_home = places
                .iter()
                .any(|place| sources.starts_with(place) || place.starts_with(&sources));
            (!at_home).then(|| {
                Finding::new(
                    file,
                    line,
                    format!("{used} belongs to {}", places.join(" and ")),
                )
            })
        })
        .collect()
}

/// Where a source file names a crate that has its place elsewhere.
fn crosses_fence(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let code = tree::code(line);
        for (name, places) in FENCES {
            let outside = !places.iter().any(|place| file.path.starts_with(place));
            if outside && names_crate(&code, name) {
                findings.push(Finding::new(
                    &file.path,
                    number + 1,
                    format!("only {} may name {name}", places.join(" and ")),
                ));
            }
        }
    }
    findings
}

/// Whether a line of code uses `name` as the name of a crate: as the head of a path or in a `use`.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(start, _)| {
        let (before, after) = (&code[..start], &code[start + name.len()..]);
        let part_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '"';
        let whole = !before.ends_with(|c| part_of_word(c) || c == ':' || c == '.')
            && !after.starts_with(part_of_word);
        let imported = before.trim_end().ends_with("use") || before.trim_end().ends_with("crate");
        whole && (after.starts_with("::") || imported)
    })
}

// === functions ===

/// Every dependency of any kind, with the line that names it.
fn dependencies(file: &str, text: &str) -> BTreeMap<String, usize> {
    let manifest = parse(file, text);
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|table| manifest.get(*table)?.as_table())
        .flat_map(toml::Table::keys)
        .map(|name| {
            let line = text.lines().position(|line| {
                line.strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
            });
            (name.clone(), line.map_or(0, |index| index + 1))
        })
        .collect()
}

fn parse(file: &str, text: &str) -> toml::Table {
    text.parse()
        .unwrap_or_else(|error| panic!("{file} is not TOML: {error}"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::{breaks_line, crosses_fence, depends_across_fence};
    use crate::tree::SourceFile;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_dependency_against_the_line_is_found() {
        let manifest = "[dependencies]\nserde = \"1\"\nworker-drivers.workspace = true\n\n[dev-dependencies]\nworker = { path = \"..\" }\n";
        let found = breaks_line("api/Cargo.toml", manifest, "worker-api", &["worker-config"]);
        let lines: Vec<usize> = found.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [6, 3]);
        assert!(breaks_line("x", manifest, "x", &["worker", "worker-drivers"]).is_empty());
    }

    #[test]
    fn a_fenced_dependency_is_found() {
        let manifest = "[dependencies]\nreqwest = \"1\"\n";
        assert_eq!(
            depends_across_fence("Cargo.toml", "worker", manifest).len(),
            1
        );
        assert!(depends_across_fence("Cargo.toml", "worker/api", manifest).is_empty());
        let journal = "[dependencies]\nrusqlite = \"1\"\n";
        assert!(depends_across_fence("Cargo.toml", "worker", journal).is_empty());
        assert_eq!(
            depends_across_fence("Cargo.toml", "config", journal).len(),
            1
        );
    }

    #[test]
    fn a_crate_named_outside_its_fence_is_found() {
        for line in [
            "use kube::Api;",
            "use kube as k;",
            "let api: kube::Api<Job> = x;",
            "fn f(_: &git2::Repository) {}",
            "use {reqwest::Client, std::fs};",
        ] {
            let found = crosses_fence(&file("config/src/a.rs", &format!("\n{line}\n")));
            assert_eq!(found.len(), 1, "{line}");
            assert_eq!(found[0].line, 2, "{line}");
        }
    }

    #[test]
    fn words_that_only_look_like_a_crate_are_left_alone() {
        for line in [
            "use crate::kube::Plan;",
            "let kube = 1;",
            "let kubeconfig = \"kube\";",
            "// see kube::Api",
            "x.kube::<T>()",
        ] {
            assert!(
                crosses_fence(&file("config/src/a.rs", line)).is_empty(),
                "{line}"
            );
        }
        assert!(crosses_fence(&file("drivers/src/a.rs", "use kube::Api;")).is_empty());
    }
}
