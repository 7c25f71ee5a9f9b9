//! Who shares a read with whom.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Semaphore;

use super::*;

#[tokio::test]
async fn callers_that_wait_together_share_the_next_read_and_never_one_that_is_under_way() {
    let fresh = Fresh::<u32, u32>::new();
    let reads = AtomicU32::new(0);
    let permits = Semaphore::new(0);
    let read = || async {
        let number = reads.fetch_add(1, Ordering::SeqCst);
        permits.acquire().await.expect("open").forget();
        Ok::<_, ()>(number)
    };
    let first = fresh.read(&1, read);
    let second = fresh.read(&1, read);
    let third = fresh.read(&1, read);
    tokio::pin!(first, second, third);
    // The first read is under way before the others come.
    assert!(futures::poll!(&mut first).is_pending());
    assert!(futures::poll!(&mut second).is_pending());
    assert!(futures::poll!(&mut third).is_pending());
    permits.add_permits(2);
    assert_eq!(tokio::join!(first, second, third), (Ok(0), Ok(1), Ok(1)));
    assert_eq!(reads.load(Ordering::SeqCst), 2);
    assert!(fresh.flights.lock().expect("not poisoned").is_empty());
}

#[tokio::test]
async fn a_read_that_was_dropped_is_made_by_the_next_who_waits() {
    let fresh = Fresh::<u32, u32>::new();
    {
        let stuck = fresh.read(&1, std::future::pending::<Result<u32, ()>>);
        tokio::pin!(stuck);
        assert!(futures::poll!(&mut stuck).is_pending());
    }
    assert_eq!(fresh.read(&1, || async { Ok::<_, ()>(7) }).await, Ok(7));
    assert!(fresh.flights.lock().expect("not poisoned").is_empty());
}

#[tokio::test]
async fn a_failed_read_is_not_shared() {
    let fresh = Fresh::<u32, u32>::new();
    assert_eq!(
        fresh.read(&1, || async { Err::<u32, _>("down") }).await,
        Err("down")
    );
    assert_eq!(fresh.read(&1, || async { Ok::<_, &str>(1) }).await, Ok(1));
}
