use std::collections::BTreeMap;

use super::parse;

/// Pairs of a file and what python-dotenv reads in it, where `HOME` is `/h` and nothing else is set.
const REFERENCE: &str = include_str!("reference.json");

#[test]
fn every_file_is_read_as_python_dotenv_reads_it() {
    let environment = BTreeMap::from([("HOME".to_owned(), "/h".to_owned())]);
    let pairs: Vec<(String, BTreeMap<String, String>)> =
        serde_json::from_str(REFERENCE).expect("a table of pairs");
    assert!(pairs.len() > 30);
    for (file, expected) in pairs {
        assert_eq!(parse(&file, &environment), expected, "{file:?}");
    }
}
