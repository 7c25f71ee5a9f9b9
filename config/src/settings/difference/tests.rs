use super::*;
use crate::settings::{Sources, keys::KEYS, load};

fn settings(file: &str) -> Settings {
    let root = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(root.path().join("worker.toml"), file).expect("a file");
    let sources = Sources {
        directory: root.path().to_owned(),
        home: Some("/home/demo".into()),
        ..Sources::default()
    };
    load(&sources).expect("sound settings")
}

#[test]
fn every_key_is_compared() {
    let values = values(&settings(""));
    let known: Vec<_> = KEYS.iter().map(|key| key.id).collect();
    for id in &known {
        assert!(values.contains_key(id), "{id} is not compared");
    }
    assert_eq!(values.len(), known.len());
}

#[test]
fn what_has_changed_is_named_with_both_values() {
    let before = settings("[worker]\nlimit = 2\nquery_interval = 10\n");
    let after = settings("[worker]\nlimit = 5\nquery_interval = \"10s\"\n");
    let said: Vec<_> = before
        .differences(&after)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(said, ["worker.limit 2 -> 5"]);
    assert_eq!(after.differences(&after), []);
}

#[test]
fn a_secret_is_named_without_its_values() {
    let before = settings("[api]\nkey = \"canary-one\"\n");
    let after = settings("[api]\nkey = \"canary-two\"\n");
    let said: Vec<_> = before
        .differences(&after)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(said, ["api.key", "PREFECT_API_KEY"]);
}

#[test]
fn what_has_changed_for_one_pool_is_named_with_it() {
    let of = |limit: &str| {
        let file = format!(
            "[worker]\npool = ['a', 'b']\nprefetch = {limit}\n[pools.a]\nlimit = {limit}\n"
        );
        settings(&file)
    };
    let said: Vec<_> = of("2")
        .differences(&of("5"))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        said,
        [
            "worker.prefetch 2s -> 5s",
            "worker.limit of work pool 'a' 2 -> 5"
        ]
    );
}
