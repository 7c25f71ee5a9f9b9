use std::time::Duration;

use proptest::prelude::*;

use super::{MAX_LINE, Requests, stop_line};
use crate::job::{Intent, StopRequest};

#[test]
fn a_request_survives_the_pipe_however_it_is_cut() {
    for intent in [Intent::Cancel, Intent::Reschedule, Intent::Plain] {
        let request = StopRequest {
            intent,
            grace: Duration::from_millis(1500),
        };
        let line = stop_line(request);
        assert!(line.len() <= MAX_LINE);
        let mut requests = Requests::default();
        let (head, tail) = line.as_bytes().split_at(7);
        assert_eq!(requests.push(head), []);
        assert_eq!(
            requests.push(&[tail, line.as_bytes()].concat()),
            [request, request]
        );
    }
}

#[test]
fn lines_that_say_nothing_known_are_passed_over() {
    let mut requests = Requests::default();
    let noise = b"\nstop\nstop now 3\nstop plain x\nstop plain 1 2\n\xff\nstop plain 1\n";
    assert_eq!(requests.push(noise).len(), 1);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_grow(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let mut requests = Requests::default();
        for chunk in &chunks {
            requests.push(chunk);
            prop_assert!(requests.buffer.len() <= MAX_LINE);
        }
    }
}
