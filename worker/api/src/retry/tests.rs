use std::{cell::RefCell, time::Duration};

use tokio::time::{Instant, timeout};

use super::{Again, Failed, RetryPolicy, retry};

const MIDDLE: fn() -> f64 = || 0.5;

/// Runs a call whose tries fail with these answers, then succeed; gives the delays before each try and the result.
async fn run(policy: &RetryPolicy, script: &[Again]) -> (Vec<Duration>, Result<usize, String>) {
    let tries = RefCell::new(Vec::new());
    let result = retry(policy, || {
        tries.borrow_mut().push(Instant::now());
        let number = tries.borrow().len();
        let again = script.get(number - 1).copied();
        async move {
            match again {
                Some(again) => Err(Failed {
                    error: format!("try {number}"),
                    again,
                }),
                None => Ok(number),
            }
        }
    })
    .await;
    let tries = tries.into_inner();
    let delays = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    (delays, result)
}

fn policy(random: fn() -> f64) -> RetryPolicy {
    RetryPolicy {
        random,
        ..RetryPolicy::default()
    }
}

/// Tokio's timer counts in milliseconds.
fn seconds(delays: &[Duration]) -> Vec<f64> {
    delays
        .iter()
        .map(|delay| (delay.as_secs_f64() * 100.0).round() / 100.0)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn delays_double_and_the_last_error_is_given_after_five_retries() {
    let (delays, result) = run(&policy(MIDDLE), &[Again::Later; 9]).await;
    assert_eq!(seconds(&delays), [2.0, 4.0, 8.0, 16.0, 32.0]);
    assert_eq!(result, Err("try 6".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_delay_strays_by_the_jitter_to_either_side() {
    let (shortest, _) = run(&policy(|| 0.0), &[Again::Later; 2]).await;
    assert_eq!(seconds(&shortest), [1.6, 3.2]);
    let (longest, result) = run(&policy(|| 1.0), &[Again::Later; 2]).await;
    assert_eq!(seconds(&longest), [2.4, 4.8]);
    assert_eq!(result, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn a_delay_never_exceeds_the_longest() {
    let policy = policy(MIDDLE).with_retries(8);
    let (delays, _) = run(&policy, &[Again::Later; 9]).await;
    assert_eq!(seconds(&delays)[4..], [32.0; 4]);
}

#[tokio::test(start_paused = true)]
async fn what_would_fail_again_is_tried_once() {
    let (delays, result) = run(&policy(MIDDLE), &[Again::Never]).await;
    assert_eq!((delays.len(), result), (0, Err("try 1".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn an_immediate_retry_is_granted_once_and_costs_no_try() {
    let script = [Again::AtOnce, Again::AtOnce, Again::Later, Again::Later];
    let (delays, result) = run(&policy(MIDDLE).with_retries(1), &script).await;
    assert_eq!(seconds(&delays), [0.0, 2.0]);
    assert_eq!(result, Err("try 3".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn without_retries_an_immediate_one_is_still_granted() {
    let (delays, result) = run(&policy(MIDDLE).with_retries(0), &[Again::AtOnce]).await;
    assert_eq!((seconds(&delays), result), (vec![0.0], Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_waited_out_or_exceeded_by_a_fifth() {
    let asked = Again::After(Duration::from_secs(10));
    let (shortest, _) = run(&policy(|| 0.0), &[asked]).await;
    assert_eq!(seconds(&shortest), [10.0]);
    let (longest, _) = run(&policy(|| 1.0), &[asked]).await;
    assert_eq!(seconds(&longest), [12.0]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_beyond_the_limit_is_left_to_the_caller() {
    let asked = Again::After(Duration::from_hours(1));
    let (delays, result) = run(&policy(MIDDLE), &[asked]).await;
    assert_eq!((delays.len(), result), (0, Err("try 1".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn maintenance_costs_no_try() {
    let mut script = vec![Again::Maintenance(Some(Duration::from_mins(1))); 9];
    script.extend([Again::Later; 5]);
    let (delays, result) = run(&policy(|| 0.5), &script).await;
    assert_eq!(delays.len(), 14);
    assert_eq!(result, Ok(15));
}

#[tokio::test(start_paused = true)]
async fn maintenance_without_end_is_told_within_its_limit() {
    let start = Instant::now();
    let (delays, result) = run(&policy(MIDDLE), &[Again::Maintenance(None); 200]).await;
    assert!(result.is_err());
    assert!(delays.len() > 50);
    assert!(start.elapsed() <= policy(MIDDLE).max_maintenance);
}

#[tokio::test(start_paused = true)]
async fn without_retries_maintenance_is_told_at_once() {
    let policy = policy(MIDDLE).with_retries(0);
    let (delays, result) = run(&policy, &[Again::Maintenance(None)]).await;
    assert_eq!((delays.len(), result), (0, Err("try 1".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_ends_its_wait() {
    let tries = RefCell::new(0);
    let policy = policy(MIDDLE);
    let call = retry(&policy, || {
        *tries.borrow_mut() += 1;
        async {
            Err::<(), _>(Failed {
                error: "down",
                again: Again::Later,
            })
        }
    });
    timeout(Duration::from_secs(3), call).await.unwrap_err();
    assert_eq!(tries.into_inner(), 2);
}

#[test]
fn random_numbers_are_shares_and_differ() {
    let policy = RetryPolicy::default();
    let numbers: Vec<f64> = std::iter::repeat_with(policy.random).take(100).collect();
    assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)));
    assert!(numbers.iter().any(|number| *number < 0.5));
    assert!(numbers.iter().any(|number| *number > 0.5));
}
