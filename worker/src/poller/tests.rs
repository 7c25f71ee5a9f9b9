//! When the next poll is due.

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn the_first_poll_is_due_at_once() {
    assert_eq!(Cadence::default().next(INTERVAL), Instant::now());
}

#[tokio::test(start_paused = true)]
async fn a_full_page_is_followed_by_the_next_at_the_floor() {
    let mut cadence = Cadence::default();
    cadence.succeeded(true, Instant::now(), 0.5);
    assert_eq!(cadence.next(INTERVAL) - Instant::now(), FLOOR);
}

#[tokio::test(start_paused = true)]
async fn otherwise_the_interval_is_spread_by_a_quarter() {
    let mut cadence = Cadence::default();
    for (jitter, seconds) in [(0.0, 7.5), (0.5, 10.0), (1.0, 12.5)] {
        cadence.succeeded(false, Instant::now(), jitter);
        assert_eq!(
            cadence.next(INTERVAL) - Instant::now(),
            Duration::from_secs_f64(seconds)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn failures_slow_the_polls_down_to_a_ceiling_and_a_success_forgets_them() {
    let mut cadence = Cadence::default();
    let mut waits = Vec::new();
    for _ in 0..6 {
        cadence.failed(Instant::now(), 0.5, None);
        waits.push((cadence.next(INTERVAL) - Instant::now()).as_secs());
    }
    assert_eq!(waits, [10, 20, 40, 60, 60, 60]);
    cadence.succeeded(false, Instant::now(), 0.5);
    assert_eq!(cadence.next(INTERVAL) - Instant::now(), INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_to_be_left_alone_is_left_alone_within_reason() {
    for (asked, waited) in [(1, 10), (40, 40), (86_400, 300)] {
        let mut cadence = Cadence::default();
        cadence.failed(Instant::now(), 0.5, Some(Duration::from_secs(asked)));
        let wait = cadence.next(INTERVAL) - Instant::now();
        assert_eq!(wait, Duration::from_secs(waited));
        cadence.succeeded(false, Instant::now(), 0.5);
        assert_eq!(cadence.next(INTERVAL) - Instant::now(), INTERVAL);
    }
}

#[tokio::test(start_paused = true)]
async fn while_there_is_room_for_nothing_the_pool_is_polled_now_and_then_and_at_once_when_there_is_room()
 {
    let mut cadence = Cadence::default();
    cadence.succeeded(true, Instant::now(), 0.5);
    assert_eq!(cadence.next_shown(INTERVAL) - Instant::now(), SHOWN);
    tokio::time::advance(SHOWN).await;
    cadence.shown(Instant::now());
    assert_eq!(cadence.next_shown(INTERVAL) - Instant::now(), SHOWN);
    assert_eq!(cadence.next(INTERVAL) - Instant::now(), FLOOR);
}
