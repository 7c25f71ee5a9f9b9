//! How lines are cut.

use super::*;

#[test]
fn a_line_that_is_too_long_is_cut_between_characters_and_says_so() {
    let mut message = "ä".repeat(100);
    truncate(&mut message, 50);
    assert!(
        message.len() <= 50 && message.ends_with("ä... [truncated]"),
        "{message}"
    );
    let mut short = "short".to_owned();
    truncate(&mut short, 50);
    assert_eq!(short, "short");
}
