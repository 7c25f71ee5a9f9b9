use proptest::prelude::*;

use super::{Rules, slug};

const NAME: Rules = Rules {
    longest: 45,
    lowercase: true,
    keep: &[],
};

const LABEL: Rules = Rules {
    longest: 63,
    lowercase: false,
    keep: &['_', '.'],
};

#[test]
fn a_slug_is_what_the_reference_makes() {
    for (text, expected) in [
        ("My Flow!", "my-flow"),
        ("日本語", "ri-ben-yu"),
        ("été à Zürich", "ete-a-zurich"),
        ("Привет мир", "privet-mir"),
        ("a😀b ✨ c", "ab-c"),
        ("1,000 rows, 2", "1000-rows-2"),
        ("it's", "it-s"),
        ("a_b.c", "a-b-c"),
        ("---", ""),
        ("", ""),
    ] {
        assert_eq!(slug(text, NAME), expected, "{text}");
    }
    assert_eq!(
        slug("2026-11-21T03:30:45+00:00", LABEL),
        "2026-11-21T03-30-45-00-00"
    );
    assert_eq!(slug("_a_b.c_", LABEL), "_a_b.c_");
}

#[test]
fn a_cut_leaves_no_dash_at_the_end() {
    assert_eq!(
        slug(&"ab-".repeat(30), NAME),
        "ab-".repeat(15)[..44].to_owned()
    );
    assert_eq!(slug(&"x".repeat(300), LABEL), "x".repeat(63));
}

proptest! {
    #[test]
    fn a_slug_of_anything_is_legal(text in any::<String>()) {
        let made = slug(&text, LABEL);
        prop_assert!(made.len() <= 63);
        prop_assert!(made.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)));
        prop_assert!(!made.starts_with('-') && !made.ends_with('-'));
    }

    #[test]
    fn a_slug_of_a_slug_is_the_same(text in any::<String>()) {
        let made = slug(&text, NAME);
        prop_assert_eq!(slug(&made, NAME), made);
    }
}
