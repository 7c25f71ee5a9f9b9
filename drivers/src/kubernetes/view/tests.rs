use std::time::Duration;

use uuid::Uuid;

use super::{Glance, Views};
use crate::{job::RunKey, kubernetes::lock};

fn key() -> RunKey {
    RunKey {
        flow_run: Uuid::from_u128(7),
        attempt: 1,
    }
}

#[test]
fn without_an_event_stream_the_cluster_is_asked() {
    let views = Views::default();
    views.expect(key());
    assert!(matches!(views.glance(key()), Glance::Unknown));
    drop(views.open());
    assert!(matches!(views.glance(key()), Glance::Unknown));
}

#[test]
fn what_is_being_made_is_expected_until_something_may_have_been_missed() {
    let views = Views::default();
    let view = views.open();
    views.expect(key());
    assert!(matches!(views.glance(key()), Glance::Behind));
    lock(&view).completed();
    let before = views.glance(key());
    assert!(
        matches!(before, Glance::Unknown),
        "it may be gone: {before:?}"
    );
    views.expect(key());
    assert!(matches!(views.glance(key()), Glance::Expected));
    lock(&view).lost();
    assert!(matches!(views.glance(key()), Glance::Behind));
    lock(&view).completed();
    assert!(matches!(views.glance(key()), Glance::Unknown));
}

#[test]
fn what_could_not_be_made_is_not_expected() {
    let views = Views::default();
    let view = views.open();
    lock(&view).completed();
    views.expect(key());
    views.expect_no_more(key());
    assert!(matches!(views.glance(key()), Glance::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_view_that_nobody_keeps_up_does_not_count() {
    let views = Views::default();
    let view = views.open();
    lock(&view).completed();
    views.expect(key());
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(matches!(views.glance(key()), Glance::Unknown));
    lock(&view).looked();
    assert!(matches!(views.glance(key()), Glance::Expected));
}
