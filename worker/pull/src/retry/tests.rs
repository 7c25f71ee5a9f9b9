use std::{cell::Cell, time::Duration};

use super::Retry;

async fn fail(retry: &Retry, until: u32, may_pass: bool) -> Result<u32, (&'static str, u32)> {
    let tries = Cell::new(0);
    let attempt = || {
        tries.set(tries.get() + 1);
        let made = tries.get();
        async move {
            if made < until {
                Err("not yet")
            } else {
                Ok(made)
            }
        }
    };
    retry.run(attempt, |_| may_pass).await
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_until_it_does() {
    assert_eq!(fail(&Retry::default(), 3, true).await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_tried_as_often_as_said() {
    assert_eq!(fail(&Retry::default(), 99, true).await, Err(("not yet", 5)));
}

#[tokio::test(start_paused = true)]
async fn what_stays_as_it_is_is_tried_once() {
    assert_eq!(
        fail(&Retry::default(), 99, false).await,
        Err(("not yet", 1))
    );
}

#[tokio::test(start_paused = true)]
async fn delays_grow_and_are_bounded() {
    let retry = Retry {
        attempts: 8,
        first_delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(4),
    };
    let started = tokio::time::Instant::now();
    assert!(fail(&retry, 99, true).await.is_err());
    let waited = started.elapsed();
    // 1 + 2 + 4 + 4 + 4 + 4 + 4, each up to a half more or less.
    assert!(waited >= Duration::from_millis(11_400), "{waited:?}");
    assert!(waited <= Duration::from_millis(34_600), "{waited:?}");
}
