//! What the API has to say: whether it answers and lets us in, which it is, what time it has, and how the pool is.

use jiff::{SignedDuration, Timestamp};

use worker_api::{Client, types::WorkPool};
use worker_config::{DriverKind, template::BaseJobTemplate};
use worker_drivers::Finding;

use super::Pool;
use crate::{cli::context::Api, telemetry::chain};

/// The releases that tests run beside, by their first two numbers.
const TESTED: [(u32, u32); 2] = [(3, 6), (3, 9)];

/// How far two clocks may be apart before it is worth a word, and before it is wrong: flow runs are taken ten seconds ahead of their time, and a
/// worker is late after three heartbeats of half a minute.
const APART: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(3), SignedDuration::from_secs(60));

/// Looks at the API and at pools, and puts what it knows of them in.
pub(super) async fn look(api: &Api, pools: &mut [Pool]) -> Vec<Finding> {
    let client = api.client.with_retries(0);
    let mut findings = vec![reach(&client, api.embedded.is_some()).await];
    findings.extend(client.clock_ahead().map(clock));
    if pools.is_empty() {
        let detail = "none given; --pool NAME looks at one";
        findings.push(Finding::ok("work pool", detail));
    }
    for pool in pools {
        let name = &pool.name;
        match client.read_work_pool(name).await {
            Ok(found) => {
                findings.extend(pool_findings(&found));
                findings.extend(people_of(&client, name).await);
                pool.kind = found.kind.parse().ok();
                pool.template = Some(found.base_job_template);
            }
            Err(error) if error.is_not_found() => {
                let detail = format!(
                    "'{name}' does not exist; `worker --pool {name} --type TYPE` creates it when it starts"
                );
                findings.push(Finding::warning("work pool", detail));
            }
            Err(error) => findings.push(Finding::problem("work pool", chain(&error))),
        }
    }
    findings
}

/// Whether it answers, and to whom it speaks. Prefect Cloud has no version to show, and a server may show it to everybody: a list needs the same
/// credential as work does.
async fn reach(client: &Client, embedded: bool) -> Finding {
    const WHAT: &str = "API";
    let url = client.base_url();
    if let Err(error) = client.list_work_pools().await {
        return Finding::problem(WHAT, chain(&error));
    }
    let whose = match (embedded, client.is_cloud()) {
        (true, _) => ", the embedded one",
        (_, true) => ", Prefect Cloud",
        _ => "",
    };
    match client.read_version().await {
        Ok(version) if !embedded && !is_tested(&version) => Finding::warning(
            WHAT,
            format!(
                "{url} answers, version {version}; this worker is tested with {}.{} to {}.{}",
                TESTED[0].0, TESTED[0].1, TESTED[1].0, TESTED[1].1
            ),
        ),
        Ok(version) => Finding::ok(WHAT, format!("{url} answers{whose}, version {version}")),
        Err(_) => Finding::ok(WHAT, format!("{url} answers{whose}")),
    }
}

fn is_tested(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    let found = (numbers.next(), numbers.next());
    matches!(found, (Some(major), Some(minor)) if (TESTED[0]..=TESTED[1]).contains(&(major, minor)))
}

fn clock(ahead: SignedDuration) -> Finding {
    const WHAT: &str = "clock";
    let (off, which) = (
        ahead.abs(),
        if ahead.is_positive() {
            "behind"
        } else {
            "ahead of"
        },
    );
    if off < APART.0 {
        return Finding::ok(WHAT, "as the API's");
    }
    let detail = format!(
        "this machine's is {} s {which} the API's; flow runs begin early or late by that much: set it right (NTP)",
        off.as_secs()
    );
    if off < APART.1 {
        Finding::warning(WHAT, detail)
    } else {
        Finding::problem(WHAT, detail)
    }
}

fn pool_findings(pool: &WorkPool) -> Vec<Finding> {
    const WHAT: &str = "work pool";
    let name = &pool.name;
    let mut findings = Vec::new();
    if pool.kind.parse::<DriverKind>().is_err() {
        let detail = format!(
            "'{name}' is of type '{}', which this worker does not serve; docs/migration.md names those it does",
            pool.kind
        );
        return vec![Finding::problem(WHAT, detail)];
    }
    if pool.is_paused {
        let detail = format!(
            "'{name}' is paused, so nobody takes its flow runs; `worker pool resume {name}` ends that"
        );
        findings.push(Finding::warning(WHAT, detail));
    }
    if pool.concurrency_limit == Some(0) {
        let detail = format!(
            "'{name}' has a concurrency limit of 0, so no flow run is handed out; `worker pool update {name} --concurrency-limit none` lifts it"
        );
        findings.push(Finding::warning(WHAT, detail));
    }
    match BaseJobTemplate::parse(&pool.base_job_template) {
        Err(error) => findings.push(Finding::problem(
            WHAT,
            format!("'{name}': {}", chain(&error)),
        )),
        Ok(template) => {
            let unknown = template.unknown_placeholders().join(", ");
            if !unknown.is_empty() {
                let detail = format!(
                    "'{name}': its template uses {unknown}, which are not among its variables"
                );
                findings.push(Finding::warning(WHAT, detail));
            }
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            WHAT,
            format!("'{name}' is of type '{}'", pool.kind),
        ));
    }
    findings
}

/// The pool's queues that hand out nothing, and the workers that are there already.
async fn people_of(client: &Client, pool: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let queues = client.list_work_queues(pool).await.unwrap_or_default();
    for queue in queues.iter().filter(|queue| queue.is_paused) {
        let detail = format!(
            "'{}' of '{pool}' is paused, so its flow runs wait",
            queue.name
        );
        findings.push(Finding::warning("work queue", detail));
    }
    let workers = client.list_workers(pool).await.unwrap_or_default();
    let online = workers
        .iter()
        .filter(|worker| worker.status.as_deref() == Some("ONLINE"));
    let names: Vec<&str> = online.map(|worker| worker.name.as_str()).collect();
    if !names.is_empty() {
        let detail = format!(
            "online in '{pool}' at {}: {}",
            Timestamp::now().strftime("%H:%M:%SZ"),
            names.join(", ")
        );
        findings.push(Finding::ok("workers", detail));
    }
    findings
}

#[cfg(test)]
mod tests {
    use worker_drivers::Verdict;

    use super::*;

    #[test]
    fn releases_between_the_tested_ones_are_taken_for_tested() {
        for version in ["3.6.3", "3.8.8", "3.9.1"] {
            assert!(is_tested(version), "{version}");
        }
        for version in ["2.20.0", "3.5.9", "3.10.0", "4.0.0", "unknown"] {
            assert!(!is_tested(version), "{version}");
        }
    }

    #[test]
    fn clocks_may_be_a_little_apart() {
        let verdict = |millis| clock(SignedDuration::from_millis(millis)).verdict;
        assert_eq!(verdict(-1_500), Verdict::Ok);
        assert_eq!(verdict(10_000), Verdict::Warning);
        assert_eq!(verdict(-120_000), Verdict::Problem);
        assert!(
            clock(SignedDuration::from_secs(120))
                .detail
                .contains("behind")
        );
    }
}
