//! The simulations.

use super::{
    fate::{self, Fate},
    world::{Fin, Interruption, World},
};

/// Lets one worker after the other be interrupted, then one finish. Whether every interruption came about, and how many steps the last worker took.
async fn simulate(
    fates: impl IntoIterator<Item = &'static Fate>,
    interruptions: &[Interruption],
) -> Result<(bool, u32), String> {
    let mut world = World::new(fates).await;
    let mut story = Vec::new();
    let mut rest = interruptions.iter();
    let steps = loop {
        let interruption = rest.next().copied().unwrap_or(Interruption::None);
        let fin = world.work(interruption).await;
        story.push(format!("{interruption:?}: {fin:?}"));
        match fin {
            Ok(Fin::Drained { steps }) => break steps,
            Ok(Fin::Died(_) | Fin::Gone) => {}
            Err(_) => return Err(story.join("\n")),
        }
    };
    let findings = world.findings().await;
    if findings.is_empty() {
        Ok((story.len() > interruptions.len(), steps))
    } else {
        Err(format!("{}\n{}", story.join("\n"), findings.join("\n")))
    }
}

fn run<T>(simulation: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(simulation)
}

/// Interrupts a worker at each point in turn, until it comes to its end before that.
fn at_each_point(name: &str, interruption: impl Fn(u32) -> Interruption) {
    listen();
    let fate = fate::ALL
        .iter()
        .find(|fate| fate.name == name)
        .expect("a fate");
    let only: Option<u32> = variable("WORKER_SIMULATION_POINT");
    let mut failures = Vec::new();
    for point in only.unwrap_or(1)..=only.unwrap_or(u32::MAX) {
        match run(simulate([fate], &[interruption(point)])) {
            Ok((true, _)) => {}
            Ok((false, _)) => break,
            Err(failure) => failures.push(format!("WORKER_SIMULATION_POINT={point}\n{failure}")),
        }
        assert!(point < 1000, "this has no end");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
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

#[test]
fn nothing_goes_wrong_when_no_worker_dies() {
    listen();
    let began = std::time::Instant::now();
    let (_, steps) = run(simulate(fate::ALL, &[])).unwrap();
    println!("{steps} steps {:?}", began.elapsed());
    for fate in fate::ALL {
        let began = std::time::Instant::now();
        let (_, steps) = run(simulate([fate], &[])).unwrap();
        println!("{} {steps} steps {:?}", fate.name, began.elapsed());
    }
}

fn dies(name: &str) {
    at_each_point(name, Interruption::Death);
}
#[test]
fn dies_exits_0() {
    dies("exits-0");
}
#[test]
fn dies_all() {
    for fate in fate::ALL {
        println!("{}", fate.name);
        if let Err(error) = std::panic::catch_unwind(|| dies(fate.name)) {
            println!("{:?}", error.downcast_ref::<String>());
        }
    }
}
