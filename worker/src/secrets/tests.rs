use serde_json::json;

use super::*;

fn secrets(data: &Value) -> Secrets {
    let mut lookups = Lookups::default();
    lookups.blocks.insert(
        ("secret".to_owned(), "token".to_owned()),
        data.as_object().cloned(),
    );
    Secrets::of(&lookups)
}

#[test]
fn what_a_block_holds_is_covered_wherever_it_stands() {
    let secrets = secrets(&json!({ "value": { "keys": ["open sesame", "open sesame twice"] } }));
    let why = NotStarted::Failed("program 'open sesame twice' or open sesame not found".to_owned());
    assert_eq!(
        secrets.cover(why),
        NotStarted::Failed("program '********' or ******** not found".to_owned())
    );
    assert_eq!(secrets.cover(NotStarted::Cancelled), NotStarted::Cancelled);
}

#[test]
fn what_is_too_short_to_be_a_secret_is_left() {
    let why = NotStarted::Failed("an apple".to_owned());
    assert_eq!(secrets(&json!({ "value": "a" })).cover(why.clone()), why);
}
