use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::follow;
use crate::{
    job::{Handle, LogCursor},
    kubernetes::{
        KubernetesSettings, lock,
        pod::PodSeen,
        state::JobSeen,
        tests::api::{Answer, Api, PODS, Question, ended_pod, job, listed, ok, pod, seen},
        view::{View, Watched},
    },
};

const FIRST_LOG: &str = "GET /api/v1/namespaces/flows/pods/a-1/log";
const SECOND_LOG: &str = "GET /api/v1/namespaces/flows/pods/a-2/log";
const SECOND: &str = "GET /api/v1/namespaces/flows/pods/a-2";
const FIRST: &str = "GET /api/v1/namespaces/flows/pods/a-1";

/// A Job that may have four pods, and has failed.
fn failed() -> Value {
    let condition = json!({
        "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "so it is",
    });
    job(3, &json!({"conditions": [condition]}))
}

fn line(second: u32, text: &str) -> String {
    format!("2026-01-01T00:00:{second:02}.000000000Z {text}\n")
}

fn pod_seen(pod: &Value) -> PodSeen {
    PodSeen::of(&serde_json::from_value::<Pod>(pod.clone()).expect("it is one"))
        .expect("it is ours")
}

/// What an event stream has seen: this Job and these pods of it.
fn watched(api: &Api, job: &JobSeen, pods: &[Value]) -> Arc<Mutex<View>> {
    let view = api.driver.shared.views.open();
    let home = api.driver.shared.clusters.home();
    let mut seen = lock(&view);
    seen.looks_at(vec![Watched {
        cluster: home.id.clone(),
        namespace: None,
        is_listed: true,
        since: Instant::now(),
    }]);
    seen.store.job(&home, job.clone());
    for pod in pods {
        seen.store.pod(pod_seen(pod));
    }
    drop(seen);
    view
}

fn handle(api: &Api, job: &JobSeen) -> Handle {
    job.handle(&api.driver.shared.clusters.home().id)
}

/// All that a job has written, as whoever follows it is told.
async fn read(api: &Api, handle: &Handle, view: &Mutex<View>) -> Vec<String> {
    let shared = Arc::clone(&api.driver.shared);
    let mut lines = follow(shared, handle, LogCursor::default());
    let mut texts = Vec::new();
    let reading = async {
        loop {
            lock(view).looked();
            let next = tokio::time::timeout(Duration::from_millis(100), lines.next());
            match next.await {
                Err(_) => {}
                Ok(Some(line)) => texts.push(line.expect("it can be read").text),
                Ok(None) => return,
            }
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(30), reading).await;
    assert!(read.is_ok(), "it has no end: {texts:?}");
    texts
}

#[tokio::test]
async fn a_pod_that_was_not_heard_of_yet_is_read_before_the_output_ends() {
    let both = [ended_pod("a-1", 1, 3), ended_pod("a-2", 9, 4)];
    let pods = both.clone();
    let api = Api::start(
        KubernetesSettings::default(),
        move |question| match question.what.as_str() {
            FIRST_LOG => Answer::Of(200, line(2, "first")),
            SECOND_LOG => Answer::Of(200, line(10, "second")),
            SECOND => ok(&pods[1]),
            what if what == format!("GET {PODS}") => listed(&pods),
            _ => Answer::Never,
        },
    );
    let api = api.await;
    let job = seen(&failed());
    let view = watched(&api, &job, &both[..1]);
    let texts = read(&api, &handle(&api, &job), &view).await;
    assert_eq!(texts, ["first", "second"]);
}

#[tokio::test]
async fn the_cluster_is_not_asked_about_pods_of_a_job_that_has_but_one() {
    let api = Api::start(KubernetesSettings::default(), |question| {
        if question.what == FIRST_LOG {
            Answer::Of(200, line(2, "first"))
        } else {
            Answer::Never
        }
    });
    let api = api.await;
    let job = seen(&job(0, &json!({})));
    let view = watched(&api, &job, &[ended_pod("a-1", 1, 3)]);
    let texts = read(&api, &handle(&api, &job), &view).await;
    assert_eq!(texts, ["first"]);
    assert_eq!(api.count(&format!("GET {PODS}")), 0);
}

#[tokio::test]
async fn a_pod_that_is_out_of_sight_is_not_gone() {
    let running = pod("a-1", 1, "Running", &json!({"running": {}}));
    let ended = ended_pod("a-1", 1, 3);
    let sight: Arc<OnceLock<Arc<Mutex<View>>>> = Arc::default();
    let answer = {
        let (running, ended, sight) = (running.clone(), ended.clone(), Arc::clone(&sight));
        move |question: &Question| -> Answer {
            let sees = |pod: &Value| {
                let view = sight.get().expect("it is set before anybody asks");
                lock(view).store.pod(pod_seen(pod));
            };
            match question.what.as_str() {
                // The connection breaks, and nothing is seen of the pod for a while.
                FIRST_LOG if question.count == 1 => {
                    let view = sight.get().expect("it is set before anybody asks");
                    let pod = pod_seen(&running);
                    lock(view).store.pod_gone(&pod.job, &pod.uid, pod.key);
                    Answer::Of(200, line(2, "first"))
                }
                FIRST_LOG => {
                    sees(&ended);
                    Answer::Of(200, line(2, "first") + &line(3, "second"))
                }
                FIRST => {
                    sees(&running);
                    ok(&running)
                }
                what if what == format!("GET {PODS}") => {
                    sees(&running);
                    listed(std::slice::from_ref(&running))
                }
                _ => Answer::Never,
            }
        }
    };
    let api = Api::start(KubernetesSettings::default(), answer).await;
    let job = seen(&job(0, &json!({})));
    let view = watched(&api, &job, std::slice::from_ref(&running));
    sight.set(Arc::clone(&view)).expect("it was not");
    let texts = read(&api, &handle(&api, &job), &view).await;
    assert_eq!(texts, ["first", "second"]);
}
