use super::*;

fn cone(directories: &[&str]) -> Option<Cone> {
    let directories: Vec<String> = directories.iter().map(|&one| one.to_owned()).collect();
    Cone::new(&directories)
}

#[test]
fn nothing_and_the_root_mean_everything() {
    for directories in [&[][..], &["."], &["a", "./"], &["/"]] {
        assert!(cone(directories).is_none(), "{directories:?}");
    }
}

#[test]
fn it_has_what_is_below_its_directories_only() {
    let cone = cone(&["a/b/", "./c"]).expect("a cone");
    for (path, has) in [
        ("a/b", true),
        ("a/b/x", true),
        ("a/bc", false),
        ("a", false),
        ("c/d", true),
    ] {
        assert_eq!(cone.has(path), has, "{path}");
    }
    assert_eq!(cone.above(), ["", "a"]);
    assert_eq!(cone.patterns(), "/*\n!/*/\n/a/\n!/a/*/\n/a/b/\n/c/\n");
}
