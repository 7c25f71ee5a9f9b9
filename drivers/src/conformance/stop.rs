//! Ending a job: politely, then by force, the whole tree, and as often as one likes.

use std::time::Duration;

use tokio::time::Instant;

use super::{Behaviour, Scene, Subject, scene::within};
use crate::job::{Intent, Outcome, StopRequest};

/// More than any job here needs to end politely.
const PATIENCE: Duration = Duration::from_secs(40);
/// Less than anybody notices.
const HASTE: Duration = Duration::from_millis(300);

/// How often an engine that may lose an end is given the chance to record it.
const TRIES: usize = 10;

const POLITE: Outcome = Outcome::Signalled {
    signal: 15,
    by_us: true,
};
const FORCED: Outcome = Outcome::Signalled {
    signal: 9,
    by_us: true,
};

/// A job that does not mind ends by the polite signal, long before it would be forced.
pub async fn politely_ends_by_our_signal(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Wait).await;
    scene.stop(&handle, PATIENCE).await;
    scene.ended_as(handle.key, &[POLITE]).await;
    scene.destroy(handle.key).await;
}

/// A job that tidies up ends as it wants to.
pub async fn politely_leaves_the_exit_code_to_the_job(subject: &dyn Subject) {
    let own = Outcome::Exited {
        code: 7,
        reported: false,
    };
    // What an engine may lose it does not lose each time.
    for _ in 0..TRIES {
        let mut scene = Scene::new(subject).await;
        let handle = ready(&mut scene, &Behaviour::WaitThenExit(7)).await;
        scene.stop(&handle, PATIENCE).await;
        let is_recorded = scene.ended_as(handle.key, std::slice::from_ref(&own)).await;
        scene.destroy(handle.key).await;
        if is_recorded {
            return;
        }
    }
    panic!("no end was recorded, {TRIES} times");
}

/// A job that takes no notice is forced, and not before its grace has passed.
pub async fn what_takes_no_notice_is_forced(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = ready(&mut scene, &Behaviour::IgnoreStop).await;
    let asked = Instant::now();
    scene.stop(&handle, HASTE).await;
    scene.ended_as(handle.key, &[FORCED]).await;
    assert!(asked.elapsed() >= HASTE, "it was forced before its time");
    scene.processes(handle.key, 0).await;
    scene.destroy(handle.key).await;
}

/// Who asks again with less patience is obeyed.
pub async fn a_shorter_grace_shortens(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = ready(&mut scene, &Behaviour::IgnoreStop).await;
    scene.stop(&handle, subject.longest_grace()).await;
    scene.stop(&handle, HASTE).await;
    scene.ended_as(handle.key, &[FORCED]).await;
    scene.destroy(handle.key).await;
}

/// Who asks again with more patience changes nothing.
pub async fn a_longer_grace_does_not_lengthen(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = ready(&mut scene, &Behaviour::IgnoreStop).await;
    scene.stop(&handle, HASTE).await;
    scene.stop(&handle, Duration::from_hours(1)).await;
    scene.ended_as(handle.key, &[FORCED]).await;
    scene.destroy(handle.key).await;
}

/// Stopping what is being stopped.
pub async fn twice_is_success(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Wait).await;
    scene.stop(&handle, PATIENCE).await;
    scene.stop(&handle, PATIENCE).await;
    scene.ended_as(handle.key, &[POLITE]).await;
    scene.destroy(handle.key).await;
}

/// Stopping what has ended does not change how it ended.
pub async fn after_the_end_is_success(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Exit(3)).await;
    let outcome = scene.ended(handle.key).await;
    scene.stop(&handle, HASTE).await;
    let mut scene = scene.restart().await;
    assert_eq!(scene.ended(handle.key).await, outcome);
    scene.destroy(handle.key).await;
}

/// A stop that meets the end on its way is success, and the end is told for what it was.
pub async fn racing_the_end_is_success(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    scene.watch();
    let own = Outcome::Exited {
        code: 3,
        reported: false,
    };
    for delay in (0..20).map(Duration::from_millis) {
        let handle = scene.start(&Behaviour::Exit(3)).await;
        tokio::time::sleep(delay).await;
        scene.stop(&handle, PATIENCE).await;
        scene.ended_as(handle.key, &[own.clone(), POLITE]).await;
        scene.destroy(handle.key).await;
    }
}

/// Nothing of the tree is left when the end is told, not even what cut itself loose and takes no notice.
pub async fn ends_what_the_job_started(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::WaitWithChild).await;
    scene.processes(handle.key, 2).await;
    scene.stop(&handle, PATIENCE).await;
    scene.ended_as(handle.key, &[POLITE]).await;
    assert_eq!(subject.processes(handle.key).await, 0);
    scene.destroy(handle.key).await;
}

/// A job that cannot be told an intent is stopped all the same.
pub async fn a_stop_for_each_intent_ends_the_job(subject: &dyn Subject) {
    for intent in [Intent::Cancel, Intent::Reschedule, Intent::Plain] {
        let mut scene = Scene::new(subject).await;
        let handle = scene.start(&Behaviour::Wait).await;
        let request = StopRequest {
            intent,
            grace: PATIENCE,
        };
        within("stop", scene.driver.stop(&handle, request))
            .await
            .expect("it can be asked to stop");
        scene.ended_as(handle.key, &[POLITE]).await;
        scene.destroy(handle.key).await;
    }
}

/// Starts a job that deals with the polite signal itself, and waits until it can.
async fn ready(scene: &mut Scene<'_>, behaviour: &Behaviour) -> crate::job::Handle {
    use futures::StreamExt as _;
    let handle = scene.start(behaviour).await;
    let mut lines = scene.driver.logs(&handle, crate::job::LogCursor::default());
    let line = within("the line that says it is ready", lines.next()).await;
    assert_eq!(
        line.expect("it writes").expect("it can be read").text,
        "ready"
    );
    // How a job ends that was asked to is for who watches.
    scene.running(handle.key).await;
    handle
}
