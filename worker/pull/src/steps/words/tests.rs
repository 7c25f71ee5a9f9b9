use super::*;

#[test]
fn lines_are_split_as_pythons_shlex_splits_them() {
    // Each seen with CPython 3.11.
    for (line, words) in [
        ("echo a  b\tc", &["echo", "a", "b", "c"][..]),
        (r#"echo 'a b' "c d"e"#, &["echo", "a b", "c de"]),
        (
            r#"echo "a\"b\\c\d" 'a\b' a\ b"#,
            &["echo", r#"a"b\c\d"#, r"a\b", "a b"],
        ),
        ("# no comment", &["#", "no", "comment"]),
        ("echo '' \"\"", &["echo", "", ""]),
        (
            "echo $HOME | cat > x",
            &["echo", "$HOME", "|", "cat", ">", "x"],
        ),
        ("  ", &[]),
    ] {
        assert_eq!(split(line).expect(line), words, "{line}");
    }
    for open in ["echo 'a", "echo \"a", "echo a\\", "echo \"a\\"] {
        assert_eq!(split(open), None, "{open}");
    }
}

#[test]
fn variables_are_put_in_as_pythons_template_does() {
    let find = |name: &str| (name == "A").then(|| "$A one".to_owned());
    for (line, expanded) in [
        ("x $A ${A}y", "x $A one $A oney"),
        ("$B ${B} $$A $ ${A $1", "$B ${B} $A $ ${A $1"),
        ("plain", "plain"),
    ] {
        assert_eq!(expand(line, find), expanded, "{line}");
    }
}
