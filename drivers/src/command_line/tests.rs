use super::{SplitError, split};

#[test]
fn lines_split_as_the_reference_splits_them() {
    // Each expectation was printed by Python's `shlex.split`.
    let cases: &[(&str, &[&str])] = &[
        ("", &[]),
        ("  \t\n ", &[]),
        ("a b", &["a", "b"]),
        ("a  'b c' d", &["a", "b c", "d"]),
        ("a''b", &["ab"]),
        ("''", &[""]),
        ("a \"\" b", &["a", "", "b"]),
        (r"a\ b", &["a b"]),
        (r#""a\"b\\c\$d""#, &[r#"a"b\c\$d"#]),
        (r"'a\b'", &[r"a\b"]),
        ("echo #tag", &["echo", "#tag"]),
        ("a;b && c", &["a;b", "&&", "c"]),
        ("x=\"1 2\"3", &["x=1 23"]),
        (
            "python -c 'print(\"hé\")'",
            &["python", "-c", "print(\"hé\")"],
        ),
        ("\"a\\\nb\"", &["a\\\nb"]),
        ("a\\\nb", &["a\nb"]),
    ];
    for (line, expected) in cases {
        assert_eq!(split(line).expect("it splits"), *expected, "{line:?}");
    }
}

#[test]
fn open_quotes_and_escapes_are_errors() {
    assert_eq!(split("a 'b"), Err(SplitError::OpenQuote));
    assert_eq!(split("a \"b"), Err(SplitError::OpenQuote));
    assert_eq!(split("a \\"), Err(SplitError::OpenEscape));
    assert_eq!(split("\"a\\"), Err(SplitError::OpenEscape));
}
