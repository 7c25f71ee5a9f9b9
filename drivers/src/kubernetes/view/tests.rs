use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::{Glance, Views, Watched};
use crate::{job::RunKey, kubernetes::lock};

fn key() -> RunKey {
    RunKey {
        flow_run: Uuid::from_u128(7),
        attempt: 1,
    }
}

fn glance(views: &Views) -> Glance {
    views.glance(key(), "here", "flows")
}

fn place(namespace: &str, is_listed: bool) -> Watched {
    Watched {
        cluster: "here".to_owned(),
        namespace: Some(namespace.to_owned()),
        is_listed,
        since: Instant::now(),
    }
}

#[test]
fn without_an_event_stream_the_cluster_is_asked() {
    let views = Views::default();
    views.expect(key(), "here", "flows");
    assert!(matches!(glance(&views), Glance::Unknown));
    drop(views.open());
    assert!(matches!(glance(&views), Glance::Unknown));
}

#[test]
fn what_is_being_made_is_expected_until_something_may_have_been_missed() {
    let views = Views::default();
    let view = views.open();
    lock(&view).looks_at(vec![place("flows", false)]);
    views.expect(key(), "here", "flows");
    assert!(matches!(glance(&views), Glance::Behind));
    lock(&view).looks_at(vec![place("flows", true)]);
    let before = glance(&views);
    assert!(
        matches!(before, Glance::Unknown),
        "it may be gone: {before:?}"
    );
    views.expect(key(), "here", "flows");
    assert!(matches!(glance(&views), Glance::Expected));
    lock(&view).looks_at(vec![place("flows", false)]);
    assert!(matches!(glance(&views), Glance::Behind));
    lock(&view).looks_at(vec![place("flows", true)]);
    assert!(matches!(glance(&views), Glance::Unknown));
}

#[test]
fn of_a_place_that_is_not_looked_at_the_cluster_is_asked() {
    let views = Views::default();
    let view = views.open();
    lock(&view).looks_at(vec![place("others", true)]);
    views.expect(key(), "here", "flows");
    assert!(matches!(glance(&views), Glance::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_cannot_be_listed_is_waited_for_only_so_long() {
    let views = Views::default();
    let view = views.open();
    let places = vec![place("flows", false), place("others", true)];
    lock(&view).looks_at(places);
    assert!(matches!(glance(&views), Glance::Behind));
    let other = views.glance(key(), "here", "others");
    assert!(matches!(other, Glance::Unknown), "{other:?}");
    tokio::time::sleep(Duration::from_secs(11)).await;
    // It was begun again meanwhile.
    lock(&view).looks_at(vec![place("flows", false), place("others", true)]);
    lock(&view).looked();
    assert!(matches!(glance(&views), Glance::Unknown));
}

#[test]
fn what_could_not_be_made_is_not_expected() {
    let views = Views::default();
    let view = views.open();
    lock(&view).looks_at(vec![place("flows", true)]);
    views.expect(key(), "here", "flows");
    views.expect_no_more(key());
    assert!(matches!(glance(&views), Glance::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_view_that_nobody_keeps_up_does_not_count() {
    let views = Views::default();
    let view = views.open();
    lock(&view).looks_at(vec![place("flows", true)]);
    views.expect(key(), "here", "flows");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(matches!(glance(&views), Glance::Unknown));
    lock(&view).looked();
    assert!(matches!(glance(&views), Glance::Expected));
}
