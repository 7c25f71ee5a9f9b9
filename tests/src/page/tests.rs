use super::*;

#[test]
fn what_is_typed_is_told_from_what_is_printed() {
    let page = "text\n```console\n$ one \\\n    --two\nsaid …\n# three\n```\n```text\n$ not typed\n```\n   ```console\n   $ four\n   ```\n";
    assert_eq!(
        commands(page),
        [
            Command {
                line: 3,
                text: "one \\\n    --two".to_owned(),
                as_root: false,
                prints: vec!["said …".to_owned()],
            },
            Command {
                line: 6,
                text: "three".to_owned(),
                as_root: true,
                prints: vec![],
            },
            Command {
                line: 12,
                text: "four".to_owned(),
                as_root: false,
                prints: vec![],
            },
        ]
    );
}

#[test]
fn an_exit_code_is_promised_by_a_comment() {
    let command = |text: &str| Command {
        line: 1,
        text: text.to_owned(),
        as_root: false,
        prints: vec![],
    };
    assert_eq!(command("a --b").exit_code(), 0);
    assert_eq!(command("a   # fails, with exit code 1").exit_code(), 1);
}

#[test]
fn an_ellipsis_stands_for_anything() {
    assert!(is_like("  a b c", "a … c"));
    assert!(is_like("12:00 INFO  hello", "… INFO …"));
    assert!(!is_like("a b", "a"));
    assert!(!is_like("a b d", "a … c"));
}
