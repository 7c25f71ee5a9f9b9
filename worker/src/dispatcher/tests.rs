//! What the dispatcher decides, event by event, and what holds whatever comes.

use proptest::prelude::*;
use serde_json::json;
use worker_drivers::{Handle, Happening, Outcome, Owned, Phase};

use super::*;

fn limits() -> Limits {
    Limits {
        slots: Some(2),
        starting: 10,
        drain: None,
        disk_floor: DiskFloor::Bytes(100),
        run_once: false,
        stop_grace: Duration::from_secs(30),
    }
}

/// A dispatcher whose pool was reached.
fn reached(limits: Limits) -> Dispatcher {
    let mut dispatcher = Dispatcher::new(limits);
    dispatcher.handle(Event::Pool(None), Instant::now());
    dispatcher
}

fn due(number: u128) -> ScheduledFlowRun {
    let id = uuid::Uuid::from_u128(number);
    serde_json::from_value(json!({
        "work_pool_id": id, "work_queue_id": id,
        "flow_run": {"id": id, "name": format!("run-{number}"), "flow_id": id},
    }))
    .expect("a scheduled flow run")
}

fn id(number: u128) -> FlowRunId {
    FlowRunId(uuid::Uuid::from_u128(number))
}

fn key(number: u128) -> RunKey {
    RunKey {
        flow_run: uuid::Uuid::from_u128(number),
        attempt: 1,
    }
}

fn left(number: u128) -> Entry {
    Entry {
        key: key(number),
        name: format!("run-{number}"),
        transition: worker_api::types::TransitionId::random(),
        step: crate::journal::Step::Claimed,
        reporter: crate::journal::Reporter::Engine,
        claimed: jiff::Timestamp::UNIX_EPOCH,
        handle: None,
        lease: None,
        told: None,
        trace: None,
        workspace: None,
        output: worker_drivers::LogCursor::default(),
        shown: false,
    }
}

fn starts(commands: &[Command]) -> Vec<FlowRunId> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::Start { scheduled, .. } => Some(scheduled.flow_run.id),
            _ => None,
        })
        .collect()
}

fn polled(numbers: &[u128]) -> Event {
    Event::Polled {
        due: numbers.iter().copied().map(due).collect(),
        seen: Seen {
            asked: Instant::now(),
            answered: Instant::now(),
        },
    }
}

#[test]
fn a_paused_worker_claims_nothing_and_looks_after_what_it_has() {
    let mut dispatcher = reached(limits());
    let mut commands = dispatcher.handle(polled(&[1]), Instant::now());
    assert_eq!(starts(&commands), [id(1)]);
    let paused = Event::Paused(Some("this worker is paused".to_owned()));
    dispatcher.handle(paused, Instant::now());
    assert_eq!(
        dispatcher.gate(),
        Gate::Full("this worker is paused".to_owned())
    );
    // A poll that was under way.
    commands = dispatcher.handle(polled(&[2]), Instant::now());
    assert_eq!(starts(&commands), []);
    commands = dispatcher.handle(Event::Cancelled(vec![id(1)]), Instant::now());
    assert!(matches!(commands[..], [Command::Order(_, Order::Cancel)]));
    dispatcher.handle(Event::Paused(None), Instant::now());
    commands = dispatcher.handle(polled(&[2]), Instant::now());
    assert_eq!(starts(&commands), [id(2)]);
}

#[test]
fn below_the_floor_of_the_disk_nothing_is_begun_and_the_operator_is_told_once() {
    let space = |free| {
        Event::Disks(vec![crate::disk::Space {
            what: "workspaces",
            directory: "/w".into(),
            free,
            whole: 1_000,
        }])
    };
    let warnings = |commands: Vec<Command>| -> Vec<String> {
        let warnings = commands.into_iter().filter_map(|command| match command {
            Command::Warn(what) => Some(what),
            _ => None,
        });
        warnings.collect()
    };
    let mut dispatcher = reached(limits());
    let now = Instant::now();
    assert!(warnings(dispatcher.handle(space(100), now)).is_empty());
    let said = warnings(dispatcher.handle(space(99), now));
    assert!(
        said[0].starts_with("claiming nothing: less than"),
        "{said:?}"
    );
    assert!(warnings(dispatcher.handle(space(98), now)).is_empty());
    let Gate::Closed(reason) = dispatcher.gate() else {
        panic!("the gate is open");
    };
    assert!(reason.contains("is free on the disk of /w"), "{reason}");
    assert!(starts(&dispatcher.handle(polled(&[1]), now)).is_empty());
    let commands = dispatcher.handle(space(100), now);
    assert_eq!(starts(&commands), [id(1)]);
    assert_eq!(warnings(commands), ["claiming again: the disk has room"]);
    assert!(matches!(dispatcher.gate(), Gate::Open(_)));
}

#[test]
fn no_more_flow_runs_begin_than_there_are_slots_and_a_freed_slot_takes_the_next() {
    let now = Instant::now();
    let mut dispatcher = reached(limits());
    assert_eq!(dispatcher.gate(), Gate::Open(2));
    assert_eq!(
        starts(&dispatcher.handle(polled(&[1, 2, 3]), now)),
        [id(1), id(2)]
    );
    assert!(matches!(dispatcher.gate(), Gate::Full(_)));
    assert_eq!(
        starts(&dispatcher.handle(Event::Ended(id(1)), now)),
        [id(3)]
    );
}

#[test]
fn a_flow_run_that_waited_too_long_is_left_to_the_next_poll() {
    let mut dispatcher = reached(limits());
    let polled = polled(&[1, 2, 3]);
    let now = Instant::now();
    dispatcher.handle(polled, now);
    let later = now + STALE_AFTER + Duration::from_millis(1);
    assert!(starts(&dispatcher.handle(Event::Ended(id(1)), later)).is_empty());
    assert_eq!(dispatcher.load().waiting, 0);
}

#[test]
fn a_flow_run_that_is_still_held_does_not_begin_twice() {
    let now = Instant::now();
    let mut dispatcher = reached(limits());
    dispatcher.handle(polled(&[1]), now);
    assert!(starts(&dispatcher.handle(polled(&[1]), now)).is_empty());
    dispatcher.handle(Event::Ended(id(1)), now);
    assert_eq!(starts(&dispatcher.handle(polled(&[1]), now)), [id(1)]);
}

#[test]
fn only_so_many_start_at_once_and_a_started_one_makes_room() {
    let now = Instant::now();
    let mut dispatcher = reached(Limits {
        slots: None,
        starting: 1,
        ..limits()
    });
    assert_eq!(starts(&dispatcher.handle(polled(&[1, 2]), now)), [id(1)]);
    assert_eq!(
        starts(&dispatcher.handle(Event::Started(key(1)), now)),
        [id(2)]
    );
}

#[test]
fn the_gate_says_why_it_is_closed() {
    let now = Instant::now();
    let mut dispatcher = reached(limits());
    let reason = "the engine is down".to_owned();
    dispatcher.handle(
        Event::Driver(Health::Down {
            reason: reason.clone(),
        }),
        now,
    );
    assert_eq!(dispatcher.gate(), Gate::Closed(reason));
    dispatcher.handle(Event::Driver(Health::Up), now);
    dispatcher.handle(Event::Pool(Some("paused".to_owned())), now);
    assert_eq!(dispatcher.gate(), Gate::Closed("paused".to_owned()));
}

#[test]
fn a_drain_waits_for_what_runs_and_claims_nothing() {
    let now = Instant::now();
    let mut dispatcher = reached(limits());
    dispatcher.handle(polled(&[1]), now);
    dispatcher.handle(Event::Shutdown(Stage::Draining), now);
    assert!(starts(&dispatcher.handle(polled(&[2]), now)).is_empty());
    assert!(!dispatcher.is_done());
    dispatcher.handle(Event::Ended(id(1)), now);
    assert!(dispatcher.is_done());
}

#[test]
fn a_drain_past_its_time_stops_what_runs() {
    let now = Instant::now();
    let drain = Some(Duration::from_secs(5));
    let mut dispatcher = reached(Limits { drain, ..limits() });
    dispatcher.handle(polled(&[1]), now);
    dispatcher.handle(Event::Shutdown(Stage::Draining), now);
    let commands = dispatcher.handle(Event::Tick, now + Duration::from_secs(5));
    assert!(matches!(commands[..], [Command::Order(run, Order::Stop)] if run == id(1)));
}

#[test]
fn letting_go_waits_only_for_what_is_between_claim_and_start() {
    let now = Instant::now();
    let mut dispatcher = reached(limits());
    dispatcher.handle(polled(&[1, 2]), now);
    dispatcher.handle(Event::Started(key(1)), now);
    dispatcher.handle(Event::Shutdown(Stage::LettingGo), now);
    assert!(!dispatcher.is_done());
    dispatcher.handle(Event::Started(key(2)), now);
    assert!(dispatcher.is_done());
}

#[test]
fn a_stage_that_cannot_end_is_left_after_its_limit() {
    let now = Instant::now();
    let mut dispatcher = reached(limits());
    dispatcher.handle(polled(&[1]), now);
    dispatcher.handle(Event::Shutdown(Stage::LettingGo), now);
    dispatcher.handle(Event::Tick, now + STAGE_LIMIT);
    assert!(dispatcher.is_done());
}

#[test]
fn a_cancelled_flow_run_is_told_once_and_one_that_waits_is_forgotten() {
    let now = Instant::now();
    let mut dispatcher = reached(limits());
    dispatcher.handle(polled(&[1, 2, 3]), now);
    let commands = dispatcher.handle(Event::Cancelled(vec![id(1), id(3)]), now);
    assert!(matches!(commands[..], [Command::Order(run, Order::Cancel)] if run == id(1)));
    assert!(
        dispatcher
            .handle(Event::Cancelled(vec![id(1)]), now)
            .is_empty()
    );
    assert!(starts(&dispatcher.handle(Event::Ended(id(2)), now)).is_empty());
}

#[test]
fn a_snapshot_tells_started_lives_that_their_job_is_absent() {
    let now = Instant::now();
    let mut dispatcher = reached(limits());
    dispatcher.handle(polled(&[1, 2]), now);
    dispatcher.handle(Event::Started(key(1)), now);
    dispatcher.handle(Event::Started(key(2)), now);
    let handle = Handle {
        kind: worker_config::DriverKind::Process,
        version: 1,
        key: key(1),
        infrastructure_id: String::new(),
        state: json!({}),
    };
    let phase = Phase::Exited(Outcome::Exited {
        code: 0,
        reported: false,
    });
    let snapshot = JobEvent::Snapshot(vec![Owned {
        handle,
        phase: phase.clone(),
    }]);
    let commands = dispatcher.handle(Event::Job(snapshot), now);
    let told: Vec<_> = commands
        .into_iter()
        .map(|command| match command {
            Command::Observe(run, observation) => (run, observation),
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            (id(1), Observation::Phase(key(1), phase)),
            (id(2), Observation::Absent)
        ]
    );
}

#[test]
fn what_happens_to_infrastructure_is_passed_on_and_says_nothing_to_lives() {
    let now = Instant::now();
    let mut dispatcher = reached(limits());
    dispatcher.handle(polled(&[1]), now);
    for key in [key(1), key(2)] {
        let happening = Happening {
            key,
            id: uuid::Uuid::nil(),
            name: "prefect.kubernetes.pod.running".to_owned(),
            occurred: jiff::Timestamp::UNIX_EPOCH,
            resource: std::collections::BTreeMap::new(),
            labels: std::collections::BTreeMap::new(),
            follows: None,
            told_since: None,
        };
        let event = Event::Job(JobEvent::Happened(Box::new(happening.clone())));
        let commands = dispatcher.handle(event, now);
        assert!(
            matches!(&commands[..], [Command::Tell(told)] if **told == happening),
            "{commands:?}"
        );
    }
}

#[test]
fn run_once_is_done_when_the_work_of_its_one_poll_is() {
    let now = Instant::now();
    let mut dispatcher = reached(Limits {
        run_once: true,
        ..limits()
    });
    assert!(!dispatcher.is_done());
    dispatcher.handle(polled(&[1]), now);
    assert!(matches!(dispatcher.gate(), Gate::Closed(_)));
    assert!(!dispatcher.is_done());
    dispatcher.handle(Event::Ended(id(1)), now);
    assert!(dispatcher.is_done());
}

#[test]
fn run_once_does_not_wait_for_the_end_of_a_pause() {
    let now = Instant::now();
    let mut dispatcher = Dispatcher::new(Limits {
        run_once: true,
        ..limits()
    });
    let paused = |reason: Option<&str>| Event::Paused(reason.map(str::to_owned));
    dispatcher.handle(paused(Some("it is paused")), now);
    assert!(dispatcher.is_done());
    assert_eq!(dispatcher.unpolled_because(), Some("it is paused"));
    dispatcher.handle(Event::Recovered(vec![left(1)]), now);
    assert!(!dispatcher.is_done(), "what runs is looked after");
    dispatcher.handle(Event::Ended(id(1)), now);
    assert!(dispatcher.is_done());
    dispatcher.handle(paused(None), now);
    assert!(!dispatcher.is_done());
    assert_eq!(dispatcher.unpolled_because(), None);
    dispatcher.handle(polled(&[]), now);
    dispatcher.handle(paused(Some("it is paused")), now);
    assert_eq!(dispatcher.unpolled_because(), None, "it has polled");
}

#[derive(Clone, Debug)]
enum Move {
    Poll(Vec<u128>),
    Start(u128),
    End(u128),
    Cancel(u128),
    Wait(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let number = 0..12_u128;
    let one = prop_oneof![
        proptest::collection::vec(number.clone(), 0..6).prop_map(Move::Poll),
        number.clone().prop_map(Move::Start),
        number.clone().prop_map(Move::End),
        number.prop_map(Move::Cancel),
        (0..4_000_u64).prop_map(Move::Wait),
    ];
    proptest::collection::vec(one, 0..80)
}

proptest! {
    #[test]
    fn whatever_happens_slots_are_bounded_and_commands_are_about_flow_runs_that_are_held(moves in moves()) {
        let mut now = Instant::now();
        let mut dispatcher = reached(Limits { slots: Some(3), starting: 2, ..limits() });
        let mut held = HashSet::new();
        for step in moves {
            let event = match step {
                Move::Poll(numbers) => polled(&numbers),
                Move::Start(number) => Event::Started(key(number)),
                Move::End(number) => {
                    held.remove(&id(number));
                    Event::Ended(id(number))
                }
                Move::Cancel(number) => Event::Cancelled(vec![id(number)]),
                Move::Wait(milliseconds) => {
                    now += Duration::from_millis(milliseconds);
                    Event::Tick
                }
            };
            for command in dispatcher.handle(event, now) {
                match command {
                    Command::Start { scheduled, .. } => prop_assert!(held.insert(scheduled.flow_run.id)),
                    Command::Observe(run, _) | Command::Order(run, _) => prop_assert!(held.contains(&run)),
                    Command::Resume(_)
                    | Command::LookForCancelled(_)
                    | Command::Tell(_)
                    | Command::Warn(_) => {}
                }
            }
            prop_assert_eq!(dispatcher.load().lives, held.len());
            prop_assert!(held.len() <= 3);
            prop_assert!(dispatcher.load().starting <= 2);
        }
    }
}
