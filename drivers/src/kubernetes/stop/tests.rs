use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::give_up;
use crate::{
    job::{Intent, Outcome, StopRequest},
    kubernetes::{
        KubernetesSettings, lock,
        state::{EndedByUs, JobSeen},
        stop,
        tests::api::{Answer, Api, JOB, PODS, Question, ended_pod, job, listed, missing, ok, seen},
    },
};

const GET: &str = "GET /apis/batch/v1/namespaces/flows/jobs/a";
const DELETE: &str = "DELETE /apis/batch/v1/namespaces/flows/jobs/a";

/// A Job that has no pod, and long should have.
fn overdue() -> JobSeen {
    seen(&job(0, &json!({})))
}

/// What a cluster answers that has this Job and never made a pod for it.
fn answer(question: &Question) -> Answer {
    match question.what.as_str() {
        GET => ok(&job(0, &json!({}))),
        DELETE => ok(&json!({"kind": "Status", "apiVersion": "v1", "metadata": {}})),
        _ => listed(&[]),
    }
}

async fn wait_until_settled(api: &Api) {
    let settled = async {
        while !lock(&api.driver.shared.stops).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(30), settled).await;
    assert!(settled.is_ok(), "{:?}", lock(&api.driver.shared.stops));
}

#[tokio::test]
async fn what_the_cluster_says_is_overdue_is_deleted() {
    let api = Api::start(KubernetesSettings::default(), answer).await;
    let job = overdue();
    give_up(&api.driver.shared, api.place(&job), job.clone());
    api.wait_until_asked(DELETE).await;
    let why = api.driver.shared.ended_by_us(job.key);
    let Some(EndedByUs::GivenUp(Outcome::NeverStarted { reason })) = why else {
        panic!("{why:?}");
    };
    assert!(reason.contains("no pod"), "{reason}");
}

#[tokio::test]
async fn while_the_cluster_is_asked_a_job_ends_by_itself() {
    let api = Api::start(KubernetesSettings::default(), |question| {
        if question.what == GET {
            Answer::Never
        } else {
            answer(question)
        }
    });
    let api = api.await;
    let job = overdue();
    give_up(&api.driver.shared, api.place(&job), job.clone());
    api.wait_until_asked(GET).await;
    assert_eq!(api.driver.shared.ended_by_us(job.key), None);
    give_up(&api.driver.shared, api.place(&job), job);
    assert_eq!(lock(&api.driver.shared.stops).len(), 1, "it is asked once");
}

#[tokio::test]
async fn what_has_ended_meanwhile_or_is_gone_is_not_deleted() {
    for is_gone in [false, true] {
        let api = Api::start(
            KubernetesSettings::default(),
            move |question| match question.what.as_str() {
                GET if is_gone => missing(),
                what if what == format!("GET {PODS}") => listed(&[ended_pod("a-1", 1, 3)]),
                _ => answer(question),
            },
        );
        let api = api.await;
        let job = overdue();
        give_up(&api.driver.shared, api.place(&job), job);
        wait_until_settled(&api).await;
        assert_eq!(api.count(&format!("DELETE {JOB}")), 0);
    }
}

#[tokio::test]
async fn a_stop_goes_before_the_question_whether_to_give_up() {
    let api = Api::start(KubernetesSettings::default(), |question| {
        // The first is the question, and is never answered.
        let is_first = question.what == GET && question.count == 1;
        if is_first {
            Answer::Never
        } else {
            answer(question)
        }
    });
    let api = api.await;
    let job = overdue();
    let place = api.place(&job);
    let handle = job.handle(&place.cluster.id);
    give_up(&api.driver.shared, place, job.clone());
    api.wait_until_asked(GET).await;
    let request = StopRequest {
        intent: Intent::Cancel,
        grace: Duration::from_mins(1),
    };
    let shared = Arc::clone(&api.driver.shared);
    stop::stop(&shared, &handle, request)
        .await
        .expect("it is asked to");
    assert_eq!(api.count(DELETE), 1);
    let why = shared.ended_by_us(job.key);
    assert_eq!(why, Some(EndedByUs::Asked { had_begun: false }));
}

#[tokio::test]
async fn a_stop_that_the_cluster_has_not_heard_takes_no_other_away() {
    let api = Api::start(KubernetesSettings::default(), |question| {
        // The second stop is not heard at first.
        let is_lost = question.what == DELETE && question.count == 2;
        if is_lost {
            Answer::Of(500, "{}".to_owned())
        } else {
            answer(question)
        }
    });
    let api = api.await;
    let job = overdue();
    let place = api.place(&job);
    let handle = job.handle(&place.cluster.id);
    let stop = async |seconds| {
        let request = StopRequest {
            intent: Intent::Plain,
            grace: Duration::from_secs(seconds),
        };
        stop::stop(&api.driver.shared, &handle, request).await
    };
    stop(60).await.expect("it is heard");
    stop(10).await.expect_err("it is not");
    let again = async {
        while api.count(DELETE) < 3 {
            tokio::task::yield_now().await;
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(30), again).await;
    assert!(
        again.is_ok(),
        "the shorter grace is asked for until it is heard"
    );
}
