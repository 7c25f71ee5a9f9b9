use std::{collections::BTreeMap, fs, io::Read as _, os::unix::fs::symlink};

use tokio::sync::mpsc;

use super::{Archive, CHUNK, Chunks, spell};
use crate::job::Environment;

fn environment(name: &str, value: &str) -> Environment {
    Environment(BTreeMap::from([(name.to_owned(), value.to_owned())]))
}

#[test]
fn an_environment_is_quoted_for_a_shell() {
    let text = spell(&environment("A", "it's $HOME `x`\nand more")).unwrap();
    assert_eq!(text, "A='it'\\''s $HOME `x`\nand more'\n");
    let error = spell(&environment("a-b", "canary"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("env.a-b") && !error.contains("canary"),
        "{error}"
    );
}

#[test]
fn an_archive_holds_a_workspace_whole_and_open_to_everybody() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("flows")).unwrap();
    fs::write(folder.path().join("flows/big.py"), vec![b'x'; 3 * CHUNK]).unwrap();
    symlink("flows/big.py", folder.path().join("link")).unwrap();
    let (chunks_tx, mut chunks_rx) = mpsc::channel(64);
    let mut archive = Archive::new(Chunks {
        chunks_tx,
        chunk: Vec::new(),
    });
    archive.folder(folder.path().to_owned()).unwrap();
    archive.finish().unwrap();
    let mut bytes = Vec::new();
    while let Ok(chunk) = chunks_rx.try_recv() {
        bytes.extend_from_slice(&chunk);
    }
    let mut seen = BTreeMap::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let (mode, link) = (
            entry.header().mode().unwrap(),
            entry.link_name().unwrap().is_some(),
        );
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        seen.insert(path, (mode & 0o666, content.len(), link));
    }
    let expected = [
        ("opt/prefect/workspace", (0o666, 0, false)),
        ("opt/prefect/workspace/flows", (0o666, 0, false)),
        (
            "opt/prefect/workspace/flows/big.py",
            (0o666, 3 * CHUNK, false),
        ),
        ("opt/prefect/workspace/link", (0o666, 0, true)),
    ];
    let expected = expected.map(|(path, entry)| (path.to_owned(), entry));
    assert_eq!(seen, BTreeMap::from(expected));
}
