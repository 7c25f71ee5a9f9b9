use proptest::prelude::*;

use super::{hash, is_label_key, is_label_value, job_name, whole_label_value};
use crate::job::{Owner, RunKey};

fn key(attempt: u32) -> RunKey {
    RunKey {
        flow_run: "11111111-1111-4111-8111-111111111111"
            .parse()
            .expect("an id"),
        attempt,
    }
}

#[test]
fn an_attempt_has_one_name_and_its_next_another() {
    let owner = Owner("ada".to_owned());
    let name = job_name("My Flow!", &owner, key(1));
    assert!(name.starts_with("my-flow-"), "{name}");
    assert_eq!(name, job_name("My Flow!", &owner, key(1)));
    assert_ne!(name, job_name("My Flow!", &owner, key(2)));
    assert_ne!(name, job_name("My Flow!", &Owner("bob".to_owned()), key(1)));
}

#[test]
fn the_hash_is_that_of_every_release() {
    assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
}

#[test]
fn two_long_texts_with_the_same_beginning_stay_apart() {
    let long = "a".repeat(70);
    let (one, cut) = whole_label_value(&format!("{long}1"));
    let (two, _) = whole_label_value(&format!("{long}2"));
    assert!(cut && one != two, "{one} {two}");
    assert_eq!(
        whole_label_value("2026-11-21T03:30:45+00:00"),
        ("2026-11-21T03-30-45-00-00".to_owned(), false)
    );
}

#[test]
fn what_a_cluster_takes_for_a_key_is_known() {
    for legal in ["a", "prefect.io/flow-run-id", "A_b.c", "a.b-c/9"] {
        assert!(is_label_key(legal), "{legal}");
    }
    for illegal in ["", "/a", "a/", "a/b/c", "-a", "a b", "UPPER.io/a", "a..b/c"] {
        assert!(!is_label_key(illegal), "{illegal}");
    }
}

proptest! {
    #[test]
    fn any_text_makes_a_legal_value_and_name(text in ".{0,200}") {
        let (value, _) = whole_label_value(&text);
        prop_assert!(is_label_value(&value), "{value}");
        let name = job_name(&text, &Owner(text.clone()), key(1));
        prop_assert!(name.len() <= 63 && is_label_value(&name), "{name}");
    }
}
