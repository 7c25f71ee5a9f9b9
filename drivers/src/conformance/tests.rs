//! Every case that is written is also run.

#[test]
fn every_case_is_in_the_list() {
    let list = include_str!("../conformance.rs");
    let (_, list) = list.split_once("(@parts").expect("the macro is there");
    for (part, source) in [
        ("submit", include_str!("submit.rs")),
        ("outcome", include_str!("outcome.rs")),
        ("stop", include_str!("stop.rs")),
        ("destroy", include_str!("destroy.rs")),
        ("recover", include_str!("recover.rs")),
        ("events", include_str!("events.rs")),
        ("logs", include_str!("logs.rs")),
        ("hygiene", include_str!("hygiene.rs")),
    ] {
        let (_, listed) = list
            .split_once(&format!("{part}: ["))
            .expect("the part is there");
        let (listed, _) = listed.split_once(']').expect("the list ends");
        let mut cases = source
            .lines()
            .filter_map(|line| line.strip_prefix("pub async fn "));
        assert!(
            cases.all(|case| listed.contains(&format!(
                " {},",
                &case[..case.find('(').expect("a function")]
            ))),
            "a case of {part} is not listed"
        );
    }
}
