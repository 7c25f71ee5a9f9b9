use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use worker_drivers::Owner;

use super::*;
use crate::{
    board::{Ended, Held},
    dispatcher::Load,
    services::Identity,
};

fn sight() -> Sight {
    Sight {
        identity: Identity {
            worker: "w-1".to_owned(),
            pool: "demo".to_owned(),
            owner: Owner("demo/w-1".to_owned()),
        },
        kind: "docker",
        api: "http://127.0.0.1:4200/api".to_owned(),
        poll: Poll::default(),
        work: Work {
            load: Load {
                lives: 3,
                starting: 1,
                waiting: 0,
            },
            gate: Gate::Open(2),
            stage: Stage::Working,
        },
        driver: Health::Up,
        lines: Lines {
            held: BTreeMap::from([(
                Uuid::from_u128(7),
                Held {
                    name: "<script>alert(1)</script>".to_owned(),
                    attempt: 2,
                    phase: "pending",
                    reason: Some("pulling image 'flows:1'".to_owned()),
                    claimed: Timestamp::UNIX_EPOCH,
                    infrastructure: None,
                },
            )]),
            ended: VecDeque::from([Ended {
                id: Uuid::from_u128(8),
                name: "quick-bison".to_owned(),
                how: "exit code 3".to_owned(),
                at: Timestamp::UNIX_EPOCH,
            }]),
            paused: None,
        },
        uptime: Duration::from_secs(3661),
        now: "1970-01-02T01:00:00Z".parse().expect("a time"),
    }
}

fn shown(sight: Sight) -> String {
    render(&[Sighting::Worker(Box::new(sight))])
}

#[test]
fn the_page_says_what_runs_what_ended_and_why_nothing_is_taken() {
    let page = shown(sight());
    for said in [
        "takes flow runs",
        "pending: pulling image &#39;flows:1&#39;",
        "(attempt 2)",
        "exit code 3",
        "1 d 1 h ago",
        "1 h 1 min",
        "2 running, 1 starting",
        "none has succeeded yet",
    ] {
        assert!(
            page.contains(said) || page.contains(&said.replace("&#39;", "'")),
            "{said} is not in {page}"
        );
    }
    let mut paused = sight();
    paused.lines.paused = Some("work pool 'demo' is paused".to_owned());
    assert!(shown(paused).contains("takes nothing: work pool"));
    let mut closed = sight();
    closed.work.gate = Gate::Closed("the work pool is paused".to_owned());
    assert!(shown(closed).contains("takes nothing: the work pool is paused"));
}

#[test]
fn each_value_beside_a_name_has_its_label_where_there_is_no_room_for_a_head() {
    let mut shown_here = sight();
    for held in shown_here.lines.held.values_mut() {
        held.infrastructure = Some("4711".to_owned());
    }
    let page = shown(shown_here);
    for cell in [
        "<td data-label=\"Phase\">pending",
        "<td data-label=\"Claimed\"><time",
        "<td data-label=\"Where\"><code>4711",
        "<td data-label=\"How\">exit code 3",
        "<td data-label=\"When\"><time",
    ] {
        assert!(page.contains(cell), "{cell} is not in {page}");
    }
    let without_label = page.matches("<td>").count();
    assert_eq!(without_label, 2, "the name of each row: {page}");
    assert!(page.contains("content: attr(data-label)"), "{page}");
    let nowhere = shown(sight());
    assert!(
        nowhere.contains("<td data-label=\"Where\"></td>"),
        "{nowhere}"
    );
}

#[test]
fn a_name_that_people_chose_is_no_markup() {
    let page = shown(sight());
    assert!(!page.contains("<script>alert"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
}

#[test]
fn each_pool_of_a_process_has_its_part_of_the_page() {
    let gone = Sighting::None {
        pool: "boxes".to_owned(),
        reason: "work pool 'boxes' does not exist".to_owned(),
    };
    let page = render(&[Sighting::Worker(Box::new(sight())), gone]);
    for said in [
        "3 in 2 pools",
        "takes flow runs",
        "takes nothing: work pool",
    ] {
        assert!(page.contains(said), "{said} is not in {page}");
    }
}
