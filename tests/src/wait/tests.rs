//! Waiting finds, gives up, and says what it saw.

use std::time::Duration;

use super::{holds, until};

#[test]
fn what_is_found_is_returned() {
    let mut looks = 0;
    let found = until("three looks", Duration::from_mins(1), || {
        looks += 1;
        if looks == 3 {
            Ok("found")
        } else {
            Err(format!("{looks} looks"))
        }
    });
    assert_eq!((found, looks), ("found", 3));
}

#[test]
fn a_wait_in_vain_tells_the_last_thing_seen() {
    let panic = std::panic::catch_unwind(|| {
        until("the impossible", Duration::ZERO, || Err::<(), _>("nothing"));
    })
    .expect_err("it gives up");
    let text = panic
        .downcast_ref::<String>()
        .expect("a panic with arguments carries a String");
    assert_eq!(text, "not within 0ns: the impossible; last seen: nothing");
}

#[test]
fn a_condition_holds_or_does_not() {
    assert!(holds(Duration::ZERO, || true));
    assert!(!holds(Duration::ZERO, || false));
}
