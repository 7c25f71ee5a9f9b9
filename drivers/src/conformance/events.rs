//! One stream for all jobs, that says when it may have missed something.

use std::{collections::BTreeSet, time::Duration};

use futures::future;

use super::{Behaviour, Scene, Subject};
use crate::{
    driver::JobEvent,
    job::{Outcome, Phase},
};

/// Every end is told, on the same stream.
pub async fn one_stream_tells_of_many_jobs(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    scene.watch();
    let mut handles = Vec::new();
    for code in 0..10 {
        handles.push(scene.start(&Behaviour::Exit(code)).await);
    }
    for (code, handle) in (0..).zip(&handles) {
        assert_eq!(
            scene.ended(handle.key).await,
            Outcome::Exited {
                code,
                reported: false
            }
        );
    }
    future::join_all(handles.iter().map(|handle| scene.destroy(handle.key))).await;
}

/// The first event is a snapshot, with what runs and what has ended.
pub async fn a_stream_begins_with_everything_there_is(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let running = scene.start(&Behaviour::Wait).await;
    scene.running(running.key).await;
    let ended = scene.start(&Behaviour::Exit(3)).await;
    scene.ended(ended.key).await;
    let mut scene = scene.restart().await;
    let JobEvent::Snapshot(owned) = scene.next_event().await else {
        panic!("the first event is no snapshot");
    };
    let keys: BTreeSet<_> = owned.iter().map(|owned| owned.handle.key).collect();
    assert_eq!(keys, BTreeSet::from([running.key, ended.key]));
    assert_eq!(
        owned
            .iter()
            .find(|owned| owned.handle == running)
            .map(|owned| &owned.phase),
        Some(&Phase::Running)
    );
    let outcome = Outcome::Exited {
        code: 3,
        reported: false,
    };
    assert_eq!(scene.phases.get(&ended.key), Some(&Phase::Exited(outcome)));
    scene.destroy(running.key).await;
    scene.destroy(ended.key).await;
}

/// A watch that is lost is said to be, a snapshot follows, and then ends are told again.
pub async fn a_lost_watch_is_said_and_made_up_for(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Wait).await;
    scene
        .event(|event| matches!(event, JobEvent::Snapshot(_)))
        .await;
    scene.running(handle.key).await;
    subject.set_reachable(false).await;
    scene
        .event(|event| matches!(event, JobEvent::WatchLost { .. }))
        .await;
    subject.set_reachable(true).await;
    scene
        .event(|event| matches!(event, JobEvent::Snapshot(_)))
        .await;
    assert_eq!(scene.phases.get(&handle.key), Some(&Phase::Running));
    scene.stop(&handle, Duration::from_secs(40)).await;
    let polite = Outcome::Signalled {
        signal: 15,
        by_us: true,
    };
    scene.ended_as(handle.key, &[polite]).await;
    scene.destroy(handle.key).await;
}

/// Ends that nobody takes in hold up no job, and are told later.
pub async fn ends_wait_for_a_slow_consumer(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    scene
        .event(|event| matches!(event, JobEvent::Snapshot(_)))
        .await;
    let mut handles = Vec::new();
    for _ in 0..10 {
        handles.push(scene.start(&Behaviour::Exit(0)).await);
    }
    for handle in &handles {
        scene.processes(handle.key, 0).await;
    }
    for handle in &handles {
        assert_eq!(
            scene.ended(handle.key).await,
            Outcome::Exited {
                code: 0,
                reported: false
            }
        );
        scene.destroy(handle.key).await;
    }
}

/// Two workers on one engine know nothing of each other's jobs.
pub async fn owners_do_not_see_each_other(subject: &dyn Subject) {
    let mut one = Scene::new(subject).await;
    let mut two = Scene::new(subject).await;
    assert_eq!(one.next_event().await, JobEvent::Snapshot(Vec::new()));
    let others = two.start(&Behaviour::Exit(3)).await;
    two.ended(others.key).await;
    let own = one.start(&Behaviour::Exit(0)).await;
    one.ended(own.key).await;
    assert_eq!(one.phases.keys().collect::<Vec<_>>(), [&own.key]);
    assert_eq!(one.owned().await.into_keys().collect::<Vec<_>>(), [own.key]);
    assert_eq!(
        two.owned().await.into_keys().collect::<Vec<_>>(),
        [others.key]
    );
    one.destroy(own.key).await;
    two.destroy(others.key).await;
}
