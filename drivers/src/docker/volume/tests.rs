use std::path::Path;

use proptest::prelude::*;

use super::{absolute, check};

#[test]
fn a_mount_is_taken_as_it_is_written() {
    for volume in [
        "/a:/b",
        "/a:/b:ro",
        "name:/b",
        "name:b",
        "/anonymous",
        "C:\\x:/b",
        "./rel:/b",
    ] {
        assert_eq!(check(volume).ok().as_deref(), Some(volume));
    }
    assert_eq!(check(" /a:/b ").ok().as_deref(), Some("/a:/b"));
}

#[test]
fn what_is_no_mount_is_refused_with_what_would_be_right() {
    for (volume, reason) in [
        ("/a:/b:z", "':ro' or ':rw'"),
        ("~/x:/b", "an absolute path"),
        ("/a:b", "must begin with '/'"),
        ("plain", "source:target"),
        ("/a:", "no source or no target"),
    ] {
        let error = check(volume).expect_err(volume).to_string();
        assert!(error.contains(reason), "{volume}: {error}");
    }
}

#[test]
fn a_relative_source_is_below_the_workers_directory() {
    let here = Path::new("/srv/worker");
    assert_eq!(absolute("./a/../b:/c:ro", here), "/srv/worker/b:/c:ro");
    assert_eq!(absolute("../../../x:/c", here), "/x:/c");
    assert_eq!(absolute("name:/c", here), "name:/c");
    assert_eq!(absolute("/anonymous", here), "/anonymous");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(volume in any::<String>(), like in "[A-Ca./\\\\ß:]{0,8}") {
        for volume in [volume, like] {
            if let Ok(volume) = check(&volume) {
                absolute(&volume, Path::new("/"));
            }
        }
    }
}
