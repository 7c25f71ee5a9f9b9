//! Who shares a read with whom.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Counts reads, and gives their number.
struct Reads(AtomicU32);

impl Reads {
    fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    async fn read(&self) -> Result<u32, ()> {
        // Others come while it is under way.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_one_poll_began_share_one_read() {
    let (fresh, reads) = (Fresh::<u32, u32>::new(), Reads::new());
    let polled = Instant::now();
    let read = || fresh.read(&1, polled, || reads.read());
    assert_eq!(tokio::join!(read(), read(), read()), (Ok(0), Ok(0), Ok(0)));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(read().await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_what_was_read_before_they_came() {
    let (fresh, reads) = (Fresh::<u32, u32>::new(), Reads::new());
    let early = fresh.read(&1, Instant::now(), || reads.read());
    let late = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        fresh.read(&1, Instant::now(), || reads.read()).await
    };
    assert_eq!(tokio::join!(early, late), (Ok(0), Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_was_dropped_is_made_by_the_next_who_waits() {
    let fresh = Fresh::<u32, u32>::new();
    let now = Instant::now();
    {
        let stuck = fresh.read(&1, now, std::future::pending::<Result<u32, ()>>);
        tokio::pin!(stuck);
        assert!(futures::poll!(&mut stuck).is_pending());
    }
    assert_eq!(
        fresh.read(&1, now, || async { Ok::<_, ()>(7) }).await,
        Ok(7)
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_is_not_shared() {
    let fresh = Fresh::<u32, u32>::new();
    let now = Instant::now();
    let failed = fresh.read(&1, now, || async { Err::<u32, _>("down") });
    assert_eq!(failed.await, Err("down"));
    let read = fresh.read(&1, now, || async { Ok::<_, &str>(1) });
    assert_eq!(read.await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_comes_back_to_is_forgotten() {
    let fresh = Fresh::<u32, u32>::new();
    for key in 0..3 {
        tokio::time::advance(KEPT).await;
        let read = fresh.read(&key, Instant::now(), || async { Ok::<_, ()>(key) });
        assert_eq!(read.await, Ok(key));
    }
    let slots = fresh.slots.lock().expect("not poisoned");
    assert_eq!(slots.keys().collect::<Vec<_>>(), [&2]);
}

#[tokio::test(start_paused = true)]
async fn what_hardly_changes_may_be_a_little_older() {
    let holds = Duration::from_mins(5);
    let (fresh, reads) = (Fresh::<u32, u32>::holding(holds), Reads::new());
    for (later, value) in [(0, 0), (4, 0), (2, 1)] {
        tokio::time::advance(Duration::from_mins(later)).await;
        let read = fresh.read(&1, Instant::now(), || reads.read());
        assert_eq!(read.await, Ok(value), "after {later} more minutes");
    }
}
