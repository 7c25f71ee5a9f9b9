use std::{fs, os::unix::fs::symlink, path::Path, sync::Arc};

use serde_json::json;
use tempfile::{TempDir, tempdir};
use tokio_util::sync::CancellationToken;

use crate::{
    Operation,
    blob::{BlobError, Downloaded, Source, Terms, download},
};

fn folder() -> TempDir {
    let folder = tempdir().expect("a directory");
    for file in [
        "a.py",
        "b.log",
        "keep/x.log",
        "keep/important.log",
        "drop/sub/w",
    ] {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().expect("it has one")).expect("made");
        fs::write(file, "x").expect("written");
    }
    symlink("a.py", folder.path().join("link")).expect("linked");
    let patterns = "*.log\n!important.log\ndrop/\n.prefectignore\n";
    fs::write(folder.path().join(".prefectignore"), patterns).expect("written");
    folder
}

async fn pull(source: &Source, into: &Path, cancelled: bool) -> Result<Downloaded, BlobError> {
    let operation = Operation {
        cancelled: CancellationToken::new(),
        progress: Arc::new(|_| {}),
    };
    if cancelled {
        operation.cancelled.cancel();
    }
    download(&operation, source, into, &Terms::of_process()).await
}

fn block(path: &Path) -> Source {
    let data = json!({"basepath": path});
    let data = data.as_object().expect("a mapping");
    Source::from_block("local-file-system", "mine", data).expect("good")
}

#[tokio::test]
async fn a_block_heeds_the_ignore_file_and_keeps_links() {
    let (from, into) = (folder(), tempdir().expect("a directory"));
    let source = block(from.path());
    assert!(source.is_local());
    let done = pull(&source, into.path(), false).await.expect("copied");
    assert_eq!(done.outputs["directory"], "local-file-system-mine");
    let copied = into.path().join("local-file-system-mine");
    assert_eq!(
        fs::read_link(copied.join("link")).expect("a link"),
        Path::new("a.py")
    );
    assert!(copied.join("a.py").is_file() && copied.join("keep/important.log").is_file());
    for ignored in ["b.log", "keep/x.log", "drop", ".prefectignore"] {
        assert!(!copied.join(ignored).exists(), "{ignored}");
    }
    assert_eq!(done.files, 3);
}

#[tokio::test]
async fn a_directory_is_not_copied_into_itself() {
    let from = folder();
    for _ in 0..2 {
        pull(&block(from.path()), from.path(), false)
            .await
            .expect("copied");
    }
    let copied = from.path().join("local-file-system-mine");
    assert!(copied.join("a.py").is_file());
    assert!(!copied.join("local-file-system-mine").exists());
}

#[tokio::test]
async fn a_url_copies_everything_from_where_it_says() {
    let (from, into) = (folder(), tempdir().expect("a directory"));
    let url = json!({"url": format!("file://{}", from.path().display())});
    let url = url.as_object().expect("a mapping");
    let source = Source::from_step("pull_from_remote_storage", url).expect("good");
    let done = pull(&source, into.path(), false).await.expect("copied");
    assert!(done.directory.join("drop/sub/w").is_file());
    assert!(
        done.directory
            .ends_with(from.path().strip_prefix("/").expect("it is absolute"))
    );
}

#[tokio::test]
async fn nothing_is_copied_once_it_is_cancelled_or_where_nothing_is() {
    let (from, into) = (folder(), tempdir().expect("a directory"));
    let cancelled = pull(&block(from.path()), into.path(), true).await;
    assert!(matches!(cancelled, Err(BlobError::Interrupted(_))));
    let missing = pull(&block(&from.path().join("missing")), into.path(), false).await;
    assert!(matches!(missing, Err(BlobError::Disk { .. })));
    assert_eq!(fs::read_dir(into.path()).expect("a directory").count(), 0);
}
