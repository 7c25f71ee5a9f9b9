use super::*;
use crate::settings::keys::KEYS;

#[test]
fn each_key_is_there_once_and_explained() {
    let reference = reference();
    let names = |entry: &KeyReference| format!("{}.{}", entry.section, entry.name);
    let found: Vec<String> = reference.iter().map(names).collect();
    let known: Vec<&str> = KEYS.iter().map(|key| key.id).collect();
    assert_eq!(found, known);
    for entry in &reference {
        let about = &entry.about;
        assert!(about.ends_with('.'), "{}: {about}", entry.name);
    }
}

#[test]
fn the_words_about_a_key_name_what_else_sets_it() {
    for entry in reference() {
        for name in entry
            .prefect_variable
            .as_deref()
            .into_iter()
            .chain(entry.flag)
        {
            let (section, key) = (entry.section, entry.name);
            assert!(
                entry.about.contains(name),
                "{section}.{key} does not say {name}: {}",
                entry.about
            );
        }
    }
}

#[test]
fn an_example_is_told_from_a_default() {
    let find = |name: &str| {
        let mut reference = reference().into_iter();
        reference.find(|entry| entry.name == name).unwrap()
    };
    assert_eq!(
        find("limit"),
        KeyReference {
            section: "worker",
            name: "limit",
            about: find("limit").about,
            value: "10".to_owned(),
            is_example: true,
            variables: vec!["WORKER_LIMIT".to_owned(), "WORKER_WORKER_LIMIT".to_owned()],
            prefect_variable: None,
            flag: Some("--limit"),
        }
    );
    let interval = find("query_interval");
    assert_eq!(interval.value, "\"10s\"");
    assert!(!interval.is_example);
    assert_eq!(
        interval.prefect_variable.as_deref(),
        Some("PREFECT_WORKER_QUERY_SECONDS")
    );
}
