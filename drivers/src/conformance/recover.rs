//! Finding jobs again after the worker was away.

use std::time::Duration;

use futures::StreamExt as _;

use worker_config::DriverKind;

use super::{Behaviour, Scene, Subject, fresh_key, scene::within};
use crate::{
    driver::{DriverError, Recovered},
    job::{Intent, LogCursor, Outcome, StopRequest},
};

/// A worker's death ends no job, and its successor can do with it whatever the worker could.
pub async fn a_running_job_is_running_and_can_be_stopped(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::LinesThenWait(2)).await;
    scene.running(handle.key).await;
    let written = scene.driver.logs(&handle, LogCursor::default());
    let written = within("what it writes", written.take(4).count()).await;
    assert_eq!(written, 4);
    let mut scene = scene.restart().await;
    assert_eq!(scene.recover(&handle).await, Recovered::Running);
    scene.stop(&handle, Duration::from_secs(40)).await;
    let polite = Outcome::Signalled {
        signal: 15,
        by_us: true,
    };
    scene.ended_as(handle.key, &[polite]).await;
    assert_eq!(scene.lines(&handle, LogCursor::default()).await.len(), 4);
    scene.destroy(handle.key).await;
}

/// What ended while nobody watched has not lost how.
pub async fn a_job_that_ended_meanwhile_has_its_exit_code(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Exit(3)).await;
    let mut scene = scene.restart().await;
    let outcome = Outcome::Exited {
        code: 3,
        reported: false,
    };
    assert_eq!(scene.ended(handle.key).await, outcome);
    assert_eq!(scene.recover(&handle).await, Recovered::Exited(outcome));
    scene.destroy(handle.key).await;
}

/// A handle to something the engine never had.
pub async fn what_never_was_is_missing(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let mut handle = scene.start(&Behaviour::Wait).await;
    let key = std::mem::replace(&mut handle.key, fresh_key());
    assert_eq!(scene.recover(&handle).await, Recovered::Missing);
    scene.destroy(key).await;
}

/// A handle to something that was removed.
pub async fn what_was_destroyed_is_missing(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Wait).await;
    scene.destroy(handle.key).await;
    let scene = scene.restart().await;
    assert_eq!(scene.recover(&handle).await, Recovered::Missing);
}

/// Who cannot be asked has not said no, to anything.
pub async fn an_unreachable_engine_is_not_a_missing_job(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Wait).await;
    let other = scene.plan(&scene.job(&Behaviour::Exit(0)));
    subject.set_reachable(false).await;
    let recovered = scene.recover(&handle).await;
    assert!(
        matches!(recovered, Recovered::Unreachable { .. }),
        "{recovered:?}"
    );
    let request = StopRequest {
        intent: Intent::Plain,
        grace: Duration::from_secs(1),
    };
    for answer in [
        within("submit", scene.driver.submit(&other))
            .await
            .map(drop),
        within("stop", scene.driver.stop(&handle, request)).await,
        within("list_owned", scene.driver.list_owned(&scene.owner))
            .await
            .map(drop),
        within("destroy", scene.driver.destroy(handle.key)).await,
    ] {
        assert!(
            matches!(answer, Err(DriverError::Unavailable { .. })),
            "{answer:?}"
        );
    }
    subject.set_reachable(true).await;
    let scene = scene.restart().await;
    assert_eq!(scene.recover(&handle).await, Recovered::Running);
    scene.destroy(handle.key).await;
    scene.destroy(other.key()).await;
}

/// A handle of a newer version, or of another kind, is refused and not guessed at.
pub async fn an_unknown_handle_is_unsupported(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Wait).await;
    let mut newer = handle.clone();
    newer.version = u16::MAX;
    let mut foreign = handle.clone();
    foreign.kind = match handle.kind {
        DriverKind::Process => DriverKind::Docker,
        DriverKind::Docker | DriverKind::Kubernetes => DriverKind::Process,
    };
    for unknown in [newer, foreign] {
        let answer = within("recover", scene.driver.recover(&unknown)).await;
        assert!(
            matches!(answer, Err(DriverError::Unsupported { .. })),
            "{answer:?}"
        );
    }
    scene.destroy(handle.key).await;
}
