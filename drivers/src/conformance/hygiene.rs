//! What a driver owes everybody: no secrets told, no limit reached early, its health known.

use std::time::Duration;

use futures::future;

use worker_config::policy::Policy;

use super::{Behaviour, Scene, Subject, scene::within};
use crate::{
    driver::{DriverError, Health},
    job::{Outcome, Program},
};

/// The value of a variable, which may be a credential.
const CANARY: &str = "canary-8f4e1d";

/// A value of the environment reaches the job and nobody else.
pub async fn secrets_of_a_job_are_nowhere(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let mut job = scene.job(&Behaviour::Wait);
    job.environment
        .0
        .insert("SECRET".to_owned(), CANARY.to_owned());
    let plan = scene.plan(&job);
    let submitted = scene.submit(&plan).await.expect("it starts");
    let owned = scene
        .driver
        .list_owned(&scene.owner)
        .await
        .expect("it can be listed");
    let told = format!(
        "{job:?} {plan:?} {submitted:?} {owned:?} {:?}",
        scene.driver
    );
    assert!(!told.contains(CANARY), "{told}");
    let handle = submitted.into_handle();
    let written = serde_json::to_string(&handle).expect("a handle can be written");
    assert!(!written.contains(CANARY), "{written}");
    assert!(!subject.traces(handle.key).await.contains(CANARY));
    scene.stop(&handle, Duration::from_secs(40)).await;
    scene.ended(handle.key).await;
    assert!(!subject.traces(handle.key).await.contains(CANARY));
    scene.destroy(handle.key).await;

    let mut job = scene.job(&Behaviour::MissingProgram);
    job.environment
        .0
        .insert("SECRET".to_owned(), CANARY.to_owned());
    let told = match scene.submit(&scene.plan(&job)).await {
        Err(error) => format!("{error} {error:?}"),
        Ok(submitted) => {
            let key = submitted.into_handle().key;
            let outcome = scene.ended(key).await;
            scene.destroy(key).await;
            format!("{outcome:?}")
        }
    };
    assert!(!told.contains(CANARY), "{told}");
}

/// Fifty jobs at the same time, each with its own end.
pub async fn fifty_jobs_at_once(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    scene.watch();
    let behaviours: Vec<_> = (0..50).map(Behaviour::Exit).collect();
    let handles = future::join_all(behaviours.iter().map(|behaviour| scene.start(behaviour))).await;
    assert_eq!(scene.owned().await.len(), 50);
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
    assert_eq!(scene.owned().await.len(), 0);
}

/// Health goes down with the engine and up again.
pub async fn health_follows_the_engine(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let mut health = scene.driver.health();
    assert_eq!(*health.borrow(), Health::Up);
    subject.set_reachable(false).await;
    let down = within("bad news", health.wait_for(|health| *health != Health::Up)).await;
    assert!(
        matches!(&*down.expect("the driver is there"), Health::Down { reason } if !reason.is_empty())
    );
    subject.set_reachable(true).await;
    within("good news", health.wait_for(|health| *health == Health::Up))
        .await
        .expect("the driver is there");
}

/// The default template has what a base job template must have.
pub async fn the_template_is_one(subject: &dyn Subject) {
    let template = subject.driver().await.default_template();
    let variables = template["variables"]["properties"]
        .as_object()
        .expect("it has variables");
    assert!(template["job_configuration"].is_object());
    for name in ["name", "env", "labels", "command"] {
        assert!(variables.contains_key(name), "{name}");
    }
}

/// What policy forbids is refused by planning alone.
pub async fn policy_is_applied_before_anything_happens(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let mut job = scene.job(&Behaviour::Exit(0));
    job.program = Program::Command {
        line: "true".to_owned(),
        engine: false,
    };
    let policy = Policy {
        allow_command: false,
        ..Policy::default()
    };
    let refused = scene.driver.plan(&job, &policy);
    assert!(
        matches!(refused, Err(DriverError::Denied { .. })),
        "{refused:?}"
    );
    assert_eq!(scene.owned().await.len(), 0);
}
