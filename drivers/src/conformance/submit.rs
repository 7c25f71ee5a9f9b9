//! Starting a job: once, however often it is asked for.

use std::time::Duration;

use futures::{FutureExt as _, future};

use super::{Behaviour, MISSING_PROGRAM, Scene, Subject, scene::within};
use crate::{
    driver::{DriverError, Submitted},
    job::{Outcome, Phase},
};

/// The second submission finds what the first made.
pub async fn twice_adopts(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let plan = scene.plan(&scene.job(&Behaviour::Wait));
    let first = scene.submit(&plan).await.expect("it starts");
    let second = scene.submit(&plan).await.expect("it is found");
    assert!(matches!(first, Submitted::Created(_)));
    assert_eq!(second, Submitted::Adopted(first.into_handle()));
    assert_eq!(scene.owned().await.len(), 1);
    scene.processes(plan.key(), 1).await;
    scene.destroy(plan.key()).await;
}

/// Two workers that submit the same attempt at the same time make one job between them.
pub async fn twice_at_once_makes_one(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let plan = scene.plan(&scene.job(&Behaviour::Wait));
    let other = subject.driver().await;
    let (one, two) = future::join(scene.submit(&plan), within("submit", other.submit(&plan))).await;
    let (one, two) = (one.expect("it starts"), two.expect("it starts"));
    let created = [&one, &two]
        .into_iter()
        .filter(|submitted| matches!(submitted, Submitted::Created(_)));
    assert_eq!(created.count(), 1);
    assert_eq!(one.into_handle(), two.into_handle());
    scene.processes(plan.key(), 1).await;
    scene.destroy(plan.key()).await;
}

/// What has ended is found as well, and not started again.
pub async fn after_the_end_adopts(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let plan = scene.plan(&scene.job(&Behaviour::Exit(3)));
    let handle = scene.submit(&plan).await.expect("it starts").into_handle();
    scene.ended(handle.key).await;
    assert_eq!(
        scene.submit(&plan).await.expect("it is found"),
        Submitted::Adopted(handle.clone())
    );
    let ended = Phase::Exited(Outcome::Exited {
        code: 3,
        reported: false,
    });
    assert_eq!(scene.owned().await.get(&handle.key), Some(&ended));
    scene.destroy(handle.key).await;
}

/// A worker's successor finds what the worker made.
pub async fn after_a_restart_adopts(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let plan = scene.plan(&scene.job(&Behaviour::Wait));
    let handle = scene.submit(&plan).await.expect("it starts").into_handle();
    let scene = scene.restart().await;
    assert_eq!(
        scene.submit(&plan).await.expect("it is found"),
        Submitted::Adopted(handle.clone())
    );
    scene.processes(handle.key, 1).await;
    scene.destroy(handle.key).await;
}

/// The error names the program, and there is nothing to clean up.
pub async fn a_missing_program_is_named_and_nothing_is_left(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let plan = scene.plan(&scene.job(&Behaviour::MissingProgram));
    if subject.starts_later() {
        scene.submit(&plan).await.expect("it is begun");
        let Outcome::NeverStarted { reason } = scene.ended(plan.key()).await else {
            panic!("there is no such program");
        };
        assert!(reason.contains(MISSING_PROGRAM), "{reason}");
        scene.destroy(plan.key()).await;
    } else {
        let error = scene.submit(&plan).await;
        let error = error.expect_err("there is no such program");
        assert!(matches!(error, DriverError::NotFound { .. }), "{error:?}");
        assert!(error.to_string().contains(MISSING_PROGRAM), "{error}");
    }
    assert_eq!(scene.owned().await.len(), 0);
    scene.processes(plan.key(), 0).await;
}

/// A submission nobody waits for leaves nothing, or something that can be found.
pub async fn dropped_half_way_is_findable(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let plan = scene.plan(&scene.job(&Behaviour::Wait));
    // Polled once, then dropped.
    drop(scene.driver.submit(&plan).now_or_never());
    let handle = scene
        .submit(&plan)
        .await
        .expect("it starts, or is found")
        .into_handle();
    assert_eq!(scene.owned().await.len(), 1);
    scene.processes(handle.key, 1).await;
    scene.destroy(handle.key).await;
    assert_eq!(scene.owned().await.len(), 0);
    scene.processes(handle.key, 0).await;
}

/// The next attempt at a flow run does not find the one before.
pub async fn a_second_attempt_is_another_job(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let mut job = scene.job(&Behaviour::Wait);
    let first = scene
        .submit(&scene.plan(&job))
        .await
        .expect("it starts")
        .into_handle();
    job.key.attempt += 1;
    let second = scene.submit(&scene.plan(&job)).await.expect("it starts");
    assert!(matches!(second, Submitted::Created(_)));
    scene.running(job.key).await;
    scene.stop(&first, Duration::from_secs(20)).await;
    scene.ended(first.key).await;
    assert_eq!(scene.owned().await.get(&job.key), Some(&Phase::Running));
    scene.destroy(first.key).await;
    assert_eq!(scene.owned().await.len(), 1);
    scene.destroy(job.key).await;
}
