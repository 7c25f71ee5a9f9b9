use super::*;

#[test]
fn a_pull_that_outlives_its_worker_keeps_the_directory_from_the_next() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let take = || StateDir::take(root.path(), "demo", Some("w"));
    let state_dir = Arc::new(take().expect("free"));
    let (lines_tx, _lines_rx) = mpsc::channel(1);
    let operation = operation(&state_dir, CancellationToken::new(), lines_tx);
    drop(state_dir);
    assert!(take().is_err(), "the pull may still write there");
    drop(operation);
    take().expect("nobody writes there any more");
}
