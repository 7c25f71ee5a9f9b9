//! What is written is read again, and what cannot be understood is refused.

use serde_json::json;
use worker_config::DriverKind;

use super::*;

fn entry(number: u128, step: Step) -> Entry {
    Entry {
        key: RunKey {
            flow_run: uuid::Uuid::from_u128(number),
            attempt: 1,
        },
        name: format!("run-{number}"),
        transition: TransitionId(uuid::Uuid::from_u128(number)),
        step,
        reporter: Reporter::Worker { failed: true },
        claimed: Timestamp::UNIX_EPOCH,
        handle: Some(Handle {
            kind: DriverKind::Process,
            version: 1,
            key: RunKey {
                flow_run: uuid::Uuid::from_u128(number),
                attempt: 1,
            },
            infrastructure_id: "17".to_owned(),
            state: json!({"pid": 17}),
        }),
        lease: Some(uuid::Uuid::from_u128(number)),
        told: None,
        trace: None,
        workspace: Some("/tmp/workspace".into()),
        output: LogCursor {
            stdout: 3,
            stderr: 4,
        },
        shown: true,
    }
}

fn steps() -> Vec<Step> {
    let over = End::Job {
        outcome: Outcome::Signalled {
            signal: 9,
            by_us: false,
        },
        tail: vec!["last".to_owned()],
        stopped: Stopped::No,
    };
    let not_started = End::NotStarted(NotStarted::Failed("no such program".to_owned()));
    vec![
        Step::Claiming,
        Step::Claimed,
        Step::Submitting,
        Step::Submitted,
        Step::Over(over),
        Step::Over(not_started),
    ]
}

#[tokio::test]
async fn every_step_is_read_again_by_the_next_process() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("journal.db");
    let (journal, left) = Journal::open(&path).expect("opens");
    assert!(left.is_empty());
    let entries: Vec<Entry> = steps()
        .into_iter()
        .zip(1..)
        .map(|(step, number)| entry(number, step))
        .collect();
    for entry in &entries {
        journal.record(entry).await.expect("written");
    }
    drop(journal);
    let (_journal, left) = Journal::open(&path).expect("opens again");
    assert_eq!(left, entries);
}

#[tokio::test]
async fn a_removed_entry_is_gone_and_its_attempt_number_is_not_given_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("journal.db");
    let (journal, _) = Journal::open(&path).expect("opens");
    let one = entry(1, Step::Claimed);
    let flow_run = one.key.flow_run;
    assert_eq!(
        journal.next_attempt(flow_run, 1).await.expect("answered"),
        1
    );
    journal.record(&one).await.expect("written");
    journal.remove(one.key).await.expect("taken");
    assert_eq!(
        journal.next_attempt(flow_run, 1).await.expect("answered"),
        2
    );
    assert_eq!(
        journal.next_attempt(flow_run, 7).await.expect("answered"),
        7
    );
    drop(journal);
    let (_journal, left) = Journal::open(&path).expect("opens again");
    assert!(left.is_empty());
}

#[test]
fn a_journal_of_a_newer_worker_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("journal.db");
    let connection = Connection::open(&path).expect("opens");
    connection
        .pragma_update(None, "user_version", LAYOUT + 1)
        .expect("written");
    let error = Journal::open(&path).expect_err("refused");
    assert!(
        matches!(error, JournalError::Newer { found, .. } if found == LAYOUT + 1),
        "{error}"
    );
}

#[test]
fn an_entry_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("journal.db");
    drop(Journal::open(&path).expect("opens"));
    let connection = Connection::open(&path).expect("opens");
    connection
        .execute(
            "INSERT INTO entries VALUES ('some-run', '{\"step\": \"Unheard\"}')",
            [],
        )
        .expect("written");
    let error = Journal::open(&path).expect_err("refused");
    assert!(error.to_string().contains("some-run"), "{error}");
}
