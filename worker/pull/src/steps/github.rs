//! The one script that is not run: the way that Prefect documents to get a token of its GitHub App. Pure.

use serde_json::{Map, Value};

/// A repository on GitHub that a token is wanted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repository {
    pub(super) owner: String,
    pub(super) name: String,
}

/// How the program is started, by whom it may be.
const PROGRAMS: [&[&str]; 3] = [&["uv", "tool", "run"], &["uvx"], &[]];

/// What it is asked.
const QUESTION: [&str; 3] = ["prefect-cloud", "github", "token"];

// === impl Repository ===

impl Repository {
    /// The repository, if the inputs of a script ask for a token and for nothing else.
    pub(super) fn asked_for(inputs: &Map<String, Value>) -> Option<Self> {
        let words: Vec<&str> = inputs.get("script")?.as_str()?.split_whitespace().collect();
        let known = ["script", "stream_output"];
        let (name, before) = words.split_last()?;
        let asks = PROGRAMS.iter().any(|program| {
            let rest = before.strip_prefix(*program);
            rest.is_some_and(|rest| rest == QUESTION)
        });
        let (owner, name) = name.split_once('/')?;
        let legal = |part: &str| {
            let letters = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !matches!(part, "" | "." | "..") && part.chars().all(letters)
        };
        let alone = inputs.keys().all(|input| known.contains(&input.as_str()));
        (asks && alone && legal(owner) && legal(name)).then(|| Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked_for(inputs: Value) -> Option<String> {
        let Value::Object(inputs) = inputs else {
            panic!("an object");
        };
        let found = Repository::asked_for(&inputs)?;
        Some(format!("{} {}", found.owner, found.name))
    }

    #[test]
    fn the_documented_ways_to_ask_for_a_token_are_known() {
        for script in [
            "uv tool run prefect-cloud github token owner/my.repo",
            "uvx prefect-cloud github token owner/my.repo\n",
            "  prefect-cloud github token owner/my.repo ",
        ] {
            let found = asked_for(json!({"script": script, "stream_output": false}));
            assert_eq!(found.as_deref(), Some("owner my.repo"), "{script}");
        }
    }

    #[test]
    fn every_other_script_is_run() {
        for script in [
            "",
            "prefect-cloud github token",
            "prefect-cloud github token owner",
            "prefect-cloud github token owner/../x",
            "prefect-cloud github token owner/{{ name }}",
            "prefect-cloud github token owner/repo\necho x",
            "echo prefect-cloud github token owner/repo",
            "prefect-cloud github tokens owner/repo",
        ] {
            assert_eq!(asked_for(json!({"script": script})), None, "{script}");
        }
        let script = "prefect-cloud github token owner/repo";
        assert_eq!(
            asked_for(json!({"script": script, "env": {"A": "b"}})),
            None
        );
    }
}
