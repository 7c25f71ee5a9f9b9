use proptest::prelude::*;

use super::{MAX_LINE, split};

fn texts(bytes: &[u8], last: bool) -> Vec<String> {
    split(bytes, last)
        .into_iter()
        .map(|(text, _)| text)
        .collect()
}

#[test]
fn a_line_without_an_end_waits_for_it_or_for_the_end_of_the_job() {
    assert_eq!(texts(b"one\ntwo\r\n\nthr", false), ["one", "two", ""]);
    assert_eq!(texts(b"one\nthr", true), ["one", "thr"]);
    assert_eq!(texts(b"one\n", true), ["one"]);
}

#[test]
fn bytes_that_are_not_text_are_replaced() {
    assert_eq!(texts(b"a\xff\xfeb\n", false), ["a\u{fffd}\u{fffd}b"]);
}

#[test]
fn a_long_line_comes_in_pieces_that_cut_no_character() {
    let line = format!("x{}", "ü".repeat(MAX_LINE));
    let pieces = texts(format!("{line}\nnext\n").as_bytes(), false);
    assert_eq!(pieces.last().map(String::as_str), Some("next"));
    assert_eq!(pieces[..pieces.len() - 1].concat(), line);
    assert!(pieces.iter().all(|piece| piece.len() <= MAX_LINE));
}

#[test]
fn a_line_of_just_the_limit_is_one() {
    let line = "x".repeat(MAX_LINE);
    assert_eq!(
        texts(format!("{line}\n").as_bytes(), false),
        [line.as_str()]
    );
    assert_eq!(texts(line.as_bytes(), false), [""; 0]);
    assert_eq!(texts(line.as_bytes(), true), [line.as_str()]);
}

proptest! {
    #[test]
    fn with_the_last_line_nothing_is_left(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300)) {
        let total: usize = split(&bytes, true).iter().map(|(_, length)| length).sum();
        prop_assert_eq!(total, bytes.len());
        let whole: usize = split(&bytes, false).iter().map(|(_, length)| length).sum();
        let expected = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        prop_assert_eq!(whole, expected);
    }
}
