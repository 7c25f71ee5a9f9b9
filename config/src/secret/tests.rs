use super::Secret;

#[test]
fn printing_says_only_that_it_is_there() {
    let secret = Secret::new("s3cr3t");
    assert_eq!(format!("{secret:?}"), "***");
    assert_eq!(format!("{:#?}", Some(&secret)), "Some(\n    ***,\n)");
    assert_eq!(secret.expose(), "s3cr3t");
}

#[test]
fn an_empty_one_is_known_to_be_empty() {
    assert!(Secret::default().is_empty());
    assert!(!Secret::new(" ").is_empty());
}

#[test]
fn it_is_read_from_a_text() {
    let secret: Secret = serde_json::from_str("\"s3cr3t\"").expect("a text");
    assert_eq!(secret, Secret::new("s3cr3t"));
}
