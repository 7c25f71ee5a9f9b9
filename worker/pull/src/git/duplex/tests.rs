use super::*;

#[test]
fn words_of_ssh_become_kinds() {
    let kind = |said: &str| match why_ssh_failed(said) {
        Failure::Authentication(_) => "authentication",
        Failure::NotFound => "not found",
        Failure::Refused(_) => "refused",
        Failure::Passing(_) => "passing",
        Failure::Interrupted | Failure::TooLong => "ended",
    };
    for (said, expected) in [
        ("git@h: Permission denied (publickey).", "authentication"),
        (
            "ERROR: Repository not found.\nfatal: Could not read",
            "not found",
        ),
        (
            "fatal: '/x' does not appear to be a git repository",
            "not found",
        ),
        ("Host key verification failed.", "refused"),
        (
            "ssh: connect to host h port 22: Connection refused",
            "passing",
        ),
        ("", "passing"),
    ] {
        assert_eq!(kind(said), expected, "{said}");
    }
}

#[test]
fn a_path_is_one_word() {
    assert_eq!(quoted("a b"), "'a b'");
    assert_eq!(quoted("it's!"), r"'it'\''s'\!''");
}
