//! What is told of a state.

use super::*;

#[test]
fn a_long_message_is_cut_between_characters() {
    assert_eq!(shorten("aäb", 2), "a");
    assert_eq!(shorten("ab", 5), "ab");
}
