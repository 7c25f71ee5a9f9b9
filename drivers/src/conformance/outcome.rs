//! How jobs end by themselves.

use super::{Behaviour, Scene, Subject};
use crate::{driver::Recovered, job::Outcome};

async fn outcome_of(subject: &dyn Subject, behaviour: &Behaviour) -> Outcome {
    let mut scene = Scene::new(subject).await;
    scene.watch();
    let handle = scene.start(behaviour).await;
    let outcome = scene.ended(handle.key).await;
    assert_eq!(
        scene.recover(&handle).await,
        Recovered::Exited(outcome.clone())
    );
    scene.destroy(handle.key).await;
    outcome
}

/// Exit code 0.
pub async fn exit_0_is_told(subject: &dyn Subject) {
    let outcome = outcome_of(subject, &Behaviour::Exit(0)).await;
    assert_eq!(
        outcome,
        Outcome::Exited {
            code: 0,
            reported: false
        }
    );
}

/// Another exit code.
pub async fn exit_3_is_told(subject: &dyn Subject) {
    let outcome = outcome_of(subject, &Behaviour::Exit(3)).await;
    assert_eq!(
        outcome,
        Outcome::Exited {
            code: 3,
            reported: false
        }
    );
}

/// A signal that was not ours.
pub async fn a_signal_is_told_apart_from_an_exit(subject: &dyn Subject) {
    for signal in [9, 11] {
        let outcome = outcome_of(subject, &Behaviour::Signal(signal)).await;
        assert_eq!(
            outcome,
            Outcome::Signalled {
                signal,
                by_us: false
            }
        );
    }
}

/// The event stream is opened only after the end.
pub async fn an_end_before_anybody_watches_is_told(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Exit(5)).await;
    scene.processes(handle.key, 0).await;
    assert_eq!(
        scene.ended(handle.key).await,
        Outcome::Exited {
            code: 5,
            reported: false
        }
    );
    scene.destroy(handle.key).await;
}

/// When a job's end is told, nothing of it runs any more.
pub async fn a_child_left_behind_does_not_outlive_its_job(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::LeaveChild).await;
    assert_eq!(
        scene.ended(handle.key).await,
        Outcome::Exited {
            code: 0,
            reported: false
        }
    );
    assert_eq!(subject.processes(handle.key).await, 0);
    scene.destroy(handle.key).await;
}
