//! The simulations.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use worker_api::{
    Client,
    types::{ProposedState, StateType},
};
use worker_config::DriverKind;
use worker_drivers::{Phase, fake::FakeEngine};

use super::{
    fate::{self, Fate},
    random::Random,
    truth,
    world::{Fin, Interruption, World},
};

/// How many seeds one test takes, so that tests run side by side and none takes long.
const SEEDS_PER_TEST: u64 = 25;

/// How many steps a crowd of flow runs takes, about.
const CROWD_STEPS: u32 = 300;

/// When a claim arrives whose worker is dead, counted from the start of the next. The flow runs last longer: what the server makes of a claim
/// that comes after the end is not the worker's affair.
const LATE: Duration = Duration::from_secs(1);

/// How much later than the death of its forerunner a worker begins, where that counts: jobs that had to wait have begun.
const REST: Duration = Duration::from_secs(3);

/// A test for each fate, so that they run side by side.
macro_rules! at_each_step {
    ($engine:expr, $interruption:expr; $($test:ident: $fate:literal,)*) => {
        $(
            #[test]
            fn $test() {
                super::at_each_step($engine, $fate, $interruption);
            }
        )*
    };
}

mod a_worker_may_die_at_any_step_of_a_flow_run_that {
    at_each_step! {
        super::FakeEngine::new, super::Interruption::Death;
        exits_0: "exits-0",
        exits_3: "exits-3",
        runs_a_while: "runs-a-while",
        is_cancelled_while_it_runs: "cancelled-running",
        is_cancelled_before_it_runs: "cancelled-pending",
        cannot_be_submitted: "cannot-be-submitted",
        is_submitted_without_an_answer: "submit-answer-lost",
        runs_out_of_memory: "out-of-memory",
        reports_for_itself: "reported-by-its-engine",
        puts_itself_back: "put-back-once",
        is_marked_as_failed: "marked-as-failed",
    }
}

mod a_worker_may_let_go_at_any_step_of_a_flow_run_that {
    at_each_step! {
        super::FakeEngine::new, super::Interruption::LettingGo;
        runs_a_while: "runs-a-while",
        is_cancelled_while_it_runs: "cancelled-running",
        puts_itself_back: "put-back-once",
    }
}

mod a_claim_may_arrive_after_its_worker_died_of_a_flow_run_that {
    at_each_step! {
        super::FakeEngine::new, |point| super::Interruption::DeathWithLetter(point, super::LATE);
        runs_a_while: "runs-a-while",
        is_cancelled_while_it_runs: "cancelled-running",
    }
}

/// Its jobs begin when there is room for them, whether or not a worker lives then.
mod where_jobs_begin_later_a_worker_may_die_at_any_step_of_a_flow_run_that {
    at_each_step! {
        super::kubernetes, super::Interruption::Death;
        waits_for_room: "waits-for-room",
        reports_for_itself_after_a_wait: "reported-after-a-wait",
        is_cancelled_while_it_waits: "cancelled-waiting",
    }
}

mod where_jobs_begin_later_the_next_worker_may_be_late_for_a_flow_run_that {
    at_each_step! {
        super::kubernetes, |point| super::Interruption::DeathAndRest(point, super::REST);
        waits_for_room: "waits-for-room",
        reports_for_itself_after_a_wait: "reported-after-a-wait",
        is_cancelled_while_it_waits: "cancelled-waiting",
    }
}

/// Random interruptions of a crowd of flow runs, two after each other.
mod two_workers_may_be_interrupted_anywhere {
    #[test]
    fn seeds_0_to_24() {
        super::with_seeds(0);
    }

    #[test]
    fn seeds_25_to_49() {
        super::with_seeds(1);
    }

    #[test]
    fn seeds_50_to_74() {
        super::with_seeds(2);
    }

    #[test]
    fn seeds_75_to_99() {
        super::with_seeds(3);
    }
}

#[test]
fn nothing_goes_wrong_when_no_worker_is_interrupted() {
    listen();
    run(simulate(World::new(fate::ALL), &[])).expect("nothing goes wrong");
}

#[test]
fn an_engine_that_is_out_of_reach_changes_no_state_and_every_end_is_told_afterwards() {
    listen();
    run(async {
        let mut world = World::new(fate::LONG).await;
        let (engine, client) = (world.engine.clone(), world.client.clone());
        let running = vec![Some(StateType::Running); fate::LONG.len()];
        let outage = async {
            until(|| async { states(&client).await == running }).await;
            engine.make_unreachable("its socket is gone");
            until(|| async { all_ended(&engine) }).await;
            tokio::time::sleep(Duration::from_mins(1)).await;
            let during = states(&client).await;
            engine.make_reachable();
            during
        };
        let (fin, during) = tokio::join!(world.work(Interruption::None), outage);
        assert_eq!(during, running);
        assert!(matches!(fin, Ok(Fin::Drained { .. })), "{fin:?}");
        assert_eq!(world.findings().await, Vec::<String>::new());
    });
}

#[test]
fn a_worker_that_starts_while_its_engine_is_out_of_reach_waits_for_it() {
    listen();
    run(async {
        let mut world = World::new(fate::LONG).await;
        let (engine, client) = (world.engine.clone(), world.client.clone());
        let running = vec![Some(StateType::Running); fate::LONG.len()];
        tokio::select! {
            fin = world.work(Interruption::None) => panic!("it dies before: {fin:?}"),
            () = until(|| async { states(&client).await == running }) => {}
        }
        world.bequeath();
        engine.make_unreachable("its socket is gone");
        let outage = async {
            until(|| async { all_ended(&engine) }).await;
            tokio::time::sleep(Duration::from_mins(1)).await;
            let during = states(&client).await;
            engine.make_reachable();
            during
        };
        let (fin, during) = tokio::join!(world.work(Interruption::None), outage);
        assert_eq!(during, running);
        assert!(matches!(fin, Ok(Fin::Drained { .. })), "{fin:?}");
        assert_eq!(world.findings().await, Vec::<String>::new());
    });
}

#[test]
fn ends_that_come_while_the_watch_is_lost_are_told_afterwards() {
    listen();
    run(async {
        let mut world = World::new(fate::LONG).await;
        let (engine, client) = (world.engine.clone(), world.client.clone());
        let running = vec![Some(StateType::Running); fate::LONG.len()];
        let outage = async {
            until(|| async { states(&client).await == running }).await;
            engine.lose_watch("its stream has ended");
            until(|| async { all_ended(&engine) }).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
            engine.make_reachable();
        };
        let (fin, ()) = tokio::join!(world.work(Interruption::None), outage);
        assert!(matches!(fin, Ok(Fin::Drained { .. })), "{fin:?}");
        assert_eq!(world.findings().await, Vec::<String>::new());
    });
}

#[test]
fn a_leftover_that_cannot_be_removed_holds_up_no_other_and_is_tried_again() {
    listen();
    run(async {
        let mut world = World::new(fate::LONG).await;
        let client = world.client.clone();
        let running = vec![Some(StateType::Running); fate::LONG.len()];
        assert!(running.len() > 2, "one hangs, and two wait for each other");
        tokio::select! {
            fin = world.work(Interruption::None) => panic!("it ends before: {fin:?}"),
            () = until(|| async { states(&client).await == running }) => {}
        }
        for flow_run in truth::flow_runs(&client).await {
            let over = ProposedState::new(StateType::Completed);
            let answer = client.propose_state(flow_run.id, &over).await;
            answer.expect("it is accepted");
        }
        world.lose_journal();
        world.jam = Some(Arc::default());
        // It is told to drain when nothing is left in the engine.
        let fin = world.work(Interruption::None).await;
        assert!(matches!(fin, Ok(Fin::Drained { .. })), "{fin:?}");
    });
}

#[test]
fn an_api_that_is_away_for_a_while_costs_no_flow_run() {
    listen();
    for begins in [0, 500, 1000, 1500, 2500] {
        run(async {
            let mut world = World::new(fate::ALL).await;
            let away = Arc::clone(&world.api_away);
            let outage = async {
                tokio::time::sleep(Duration::from_millis(begins)).await;
                away.store(true, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(40)).await;
                away.store(false, Ordering::Relaxed);
            };
            let (fin, ()) = tokio::join!(world.work(Interruption::None), outage);
            assert!(
                matches!(fin, Ok(Fin::Drained { .. })),
                "away after {begins} ms: {fin:?}"
            );
            let findings = world.findings().await;
            assert!(findings.is_empty(), "away after {begins} ms: {findings:?}");
        });
    }
}

/// Lets one worker after the other be interrupted, and then one finish. Whether every interruption came about.
async fn simulate(
    world: impl Future<Output = World>,
    interruptions: &[Interruption],
) -> Result<bool, String> {
    let mut world = world.await;
    let mut story = Vec::new();
    let mut coming = interruptions.iter();
    loop {
        let interruption = coming.next().copied().unwrap_or(Interruption::None);
        let fin = world.work(interruption).await;
        story.push(format!("{interruption:?}: {fin:?}"));
        match fin {
            Ok(Fin::Drained { .. }) => break,
            // Without a letter it is a death like any other.
            Ok(Fin::Died(_))
                if matches!(interruption, Interruption::DeathWithLetter(..))
                    && !world.expects_letter() =>
            {
                return Ok(true);
            }
            Ok(Fin::Died(_) | Fin::Gone) => {}
            Err(_) => return Err(story.join("\n")),
        }
    }
    story.extend(
        world
            .findings()
            .await
            .into_iter()
            .map(|what| format!("! {what}")),
    );
    if story.iter().any(|line| line.starts_with('!')) {
        return Err(story.join("\n"));
    }
    Ok(story.len() > interruptions.len())
}

/// Interrupts a worker with one flow run at each step in turn, until it comes to its end before that.
fn at_each_step(
    engine: impl Fn() -> FakeEngine,
    fate: &str,
    interruption: impl Fn(u32) -> Interruption,
) {
    listen();
    let only = variable("WORKER_SIMULATION_POINT");
    let mut failures = Vec::new();
    for point in only.unwrap_or(1)..=only.unwrap_or(u32::MAX) {
        let world = World::with(engine(), [Fate::named(fate)]);
        match run(simulate(world, &[interruption(point)])) {
            Ok(true) => {}
            Ok(false) => break,
            Err(failure) => failures.push(format!("WORKER_SIMULATION_POINT={point}\n{failure}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Interrupts two workers with a crowd of flow runs, at random.
fn with_seeds(part: u64) {
    listen();
    let seeds = part * SEEDS_PER_TEST..(part + 1) * SEEDS_PER_TEST;
    let only: Option<u64> = variable("WORKER_SIMULATION_SEED");
    let mut failures = Vec::new();
    for seed in seeds.filter(|seed| only.is_none_or(|only| only == *seed)) {
        let mut random = Random::new(seed);
        let interruptions = [
            random.interruption(CROWD_STEPS),
            random.interruption(CROWD_STEPS / 2),
        ];
        if let Err(failure) = run(simulate(World::new(fate::ALL), &interruptions)) {
            failures.push(format!("WORKER_SIMULATION_SEED={seed}\n{failure}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn kubernetes() -> FakeEngine {
    FakeEngine::of_kind(DriverKind::Kubernetes)
}

fn run<T>(simulation: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(simulation)
}

/// Waits for what must come about.
async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_mins(5), waiting).await;
    waited.expect("it comes about");
}

async fn states(client: &Client) -> Vec<Option<StateType>> {
    let all = truth::flow_runs(client).await;
    all.into_iter().map(|one| one.state_type).collect()
}

fn all_ended(engine: &FakeEngine) -> bool {
    let jobs = engine.jobs();
    jobs.values().all(|phase| matches!(phase, Phase::Exited(_)))
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Shows what workers log, if that is wanted.
fn listen() {
    if variable::<u8>("WORKER_SIMULATION_LOG").is_some() {
        // Another simulation of this process may have been first.
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .try_init()
            .ok();
    }
}
