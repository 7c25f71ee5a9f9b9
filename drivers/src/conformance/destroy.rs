//! Undoing a submission, whatever became of it.

use super::{Behaviour, Scene, Subject, fresh_key};
use crate::driver::Recovered;

/// The second time there is nothing to do.
pub async fn twice_is_success(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Exit(0)).await;
    scene.ended(handle.key).await;
    scene.destroy(handle.key).await;
    scene.destroy(handle.key).await;
    assert_eq!(scene.owned().await.len(), 0);
}

/// There never was anything to do.
pub async fn before_submit_is_success(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    scene.destroy(fresh_key()).await;
}

/// What still runs is forced to end first, with all it started.
pub async fn while_running_forces_the_end(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::WaitWithChild).await;
    scene.processes(handle.key, 2).await;
    scene.destroy(handle.key).await;
    assert_eq!(subject.processes(handle.key).await, 0);
    assert_eq!(scene.owned().await.len(), 0);
}

/// Neither the driver nor the engine knows anything of it any more.
pub async fn leaves_nothing(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Lines(3)).await;
    scene.ended(handle.key).await;
    scene.destroy(handle.key).await;
    assert_eq!(subject.traces(handle.key).await, "");
    let scene = scene.restart().await;
    assert_eq!(scene.recover(&handle).await, Recovered::Missing);
}

/// A worker's successor can remove what the worker made.
pub async fn after_a_restart_works(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Wait).await;
    let scene = scene.restart().await;
    scene.destroy(handle.key).await;
    assert_eq!(scene.owned().await.len(), 0);
    scene.processes(handle.key, 0).await;
}
