//! What is found.

use super::*;

fn wants(query: &str) -> bool {
    let query = query.to_owned();
    Text { query }.wants("The Flow run 'wise-owl' has failed")
}

#[test]
fn a_text_is_wanted_for_any_word_all_that_must_be_there_and_none_that_must_not() {
    for query in [
        "",
        "flow",
        "nothing OWL",
        "+wise +failed",
        "\"flow run\" -crashed",
        "!crashed",
        "-crashed",
    ] {
        assert!(wants(query), "{query}");
    }
    for query in [
        "nothing",
        "flow -failed",
        "+nothing flow",
        "\"run flow\"",
        "flow !\"has failed\"",
    ] {
        assert!(!wants(query), "{query}");
    }
}
