use serde_json::{Value, json};

use super::*;

const FLOW_RUN: &str = "c551bfc7-0000-4000-8000-000000000001";
const FLOW: &str = "41ba0000-0000-4000-8000-000000000002";
const DEPLOYMENT: &str = "9d9b0000-0000-4000-8000-000000000003";
const POOL: &str = "ca460000-0000-4000-8000-000000000004";

fn worker() -> Worker {
    Worker {
        name: "spec w1".to_owned(),
        kind: "process".to_owned(),
        pool: "spec-proc".to_owned(),
    }
}

fn about() -> About {
    let flow_run: FlowRun = serde_json::from_value(json!({
        "id": FLOW_RUN, "name": "wise-chicken", "flow_id": FLOW, "tags": ["b", "a"],
    }))
    .unwrap();
    let flow: Flow =
        serde_json::from_value(json!({ "id": FLOW, "name": "hello", "tags": ["b"] })).unwrap();
    let deployment: Deployment = serde_json::from_value(json!({
        "id": DEPLOYMENT, "name": "daily", "flow_id": FLOW, "tags": ["c"],
    }))
    .unwrap();
    About::new(
        (&flow_run, &flow),
        Some(&deployment),
        (POOL.parse().unwrap(), "spec-proc"),
    )
}

fn related(event: &Event) -> Value {
    serde_json::to_value(&event.related).unwrap()
}

#[test]
fn a_worker_is_named_as_the_reference_names_it() {
    let resource = worker()
        .started(POOL.parse().unwrap(), Timestamp::UNIX_EPOCH)
        .resource;
    assert_eq!(
        serde_json::to_value(resource).unwrap(),
        json!({
            "prefect.resource.id": "prefect.worker.process.spec-w1",
            "prefect.resource.name": "spec w1",
            "prefect.version": "3.8.8",
            "prefect.worker-type": "process",
        })
    );
}

#[test]
fn what_a_submitted_flow_run_has_to_do_with_comes_in_the_order_of_the_reference() {
    let event = worker().submitted(&about(), Timestamp::UNIX_EPOCH);
    assert_eq!(event.name, "prefect.worker.submitted-flow-run");
    let one = |kind: &str, id: &str, name: &str| {
        json!({
            "prefect.resource.id": format!("prefect.{kind}.{id}"),
            "prefect.resource.role": kind,
            "prefect.resource.name": name,
        })
    };
    let tag = |tag: &str| json!({ "prefect.resource.id": format!("prefect.tag.{tag}"), "prefect.resource.role": "tag" });
    assert_eq!(
        related(&event),
        json!([
            one("deployment", DEPLOYMENT, "daily"),
            one("flow", FLOW, "hello"),
            one("flow-run", FLOW_RUN, "wise-chicken"),
            tag("a"),
            tag("b"),
            tag("c"),
            one("work-pool", POOL, "spec-proc"),
        ])
    );
}

#[test]
fn an_executed_flow_run_says_where_it_ran_and_how_it_ended() {
    for (outcome, code) in [
        (
            Outcome::Exited {
                code: 3,
                reported: false,
            },
            Some("3"),
        ),
        (
            Outcome::Exited {
                code: 1,
                reported: true,
            },
            Some("0"),
        ),
        (
            Outcome::Signalled {
                signal: 9,
                by_us: false,
            },
            Some("-9"),
        ),
        (
            Outcome::Lost {
                reason: "gone".to_owned(),
            },
            None,
        ),
    ] {
        let ended = Ended {
            infrastructure: "1852",
            outcome: &outcome,
        };
        let event = worker().executed(&about(), &ended, None, Timestamp::UNIX_EPOCH);
        let flow_run = event
            .related
            .iter()
            .find(|one| is(one, "flow-run"))
            .unwrap();
        assert_eq!(flow_run["prefect.infrastructure.identifier"], "1852");
        assert_eq!(
            flow_run
                .get("prefect.infrastructure.status-code")
                .map(String::as_str),
            code,
            "{outcome:?}"
        );
    }
}

#[test]
fn an_event_follows_another_only_when_they_are_close() {
    let started = worker().started(POOL.parse().unwrap(), Timestamp::UNIX_EPOCH);
    for (later, follows) in [(299, Some(started.id)), (300, None)] {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(later);
        assert_eq!(worker().stopped(&started, now).follows, follows);
    }
}

#[test]
fn a_name_becomes_part_of_an_id_as_the_reference_makes_it() {
    for (name, id) in [
        ("spec w1", "spec-w1"),
        ("Prüf_Wörker.A/B", "pruf-worker-a-b"),
        ("--x--", "x"),
        ("", ""),
    ] {
        assert_eq!(slug(name, IN_ID), id);
    }
}

#[test]
fn a_pull_step_is_told_as_it_was_written() {
    let step = json!({ "prefect.deployments.steps.git_clone": {
        "id": "clone", "repository": "r", "access_token": "{{ prefect.blocks.secret.token }}",
    }});
    let written = step.as_object().unwrap();
    let (flow_run, deployment) = (FLOW_RUN.parse().unwrap(), DEPLOYMENT.parse().unwrap());
    for (well, name) in [(true, "executed"), (false, "failed")] {
        let taken = Taken {
            index: 2,
            written,
            well,
        };
        let event = pulled(flow_run, deployment, &taken, Timestamp::UNIX_EPOCH);
        assert_eq!(event.name, format!("prefect.flow-run.pull-step.{name}"));
        assert_eq!(
            json!({ "resource": event.resource, "related": event.related, "payload": event.payload }),
            json!({
                "resource": { "prefect.resource.id": format!("prefect.flow-run.{FLOW_RUN}") },
                "related": [{
                    "prefect.resource.id": format!("prefect.deployment.{DEPLOYMENT}"),
                    "prefect.resource.role": "deployment",
                }],
                "payload": {
                    "index": 2,
                    "qualified_name": "prefect.deployments.steps.git_clone",
                    "step_name": "git_clone",
                    "id": "clone",
                    "inputs": step["prefect.deployments.steps.git_clone"],
                },
            })
        );
    }
}

#[test]
fn a_cancelled_flow_run_is_told_in_the_name_of_the_runner_and_without_the_pool() {
    let event = cancelled(&about(), Timestamp::UNIX_EPOCH);
    assert_eq!(event.name, "prefect.runner.cancelled-flow-run");
    assert_eq!(
        event.resource["prefect.resource.id"],
        "prefect.runner.standalone"
    );
    let roles: Vec<_> = event
        .related
        .iter()
        .map(|one| one["prefect.resource.role"].as_str())
        .collect();
    assert_eq!(
        roles,
        ["deployment", "flow", "flow-run", "tag", "tag", "tag"]
    );
}

#[test]
fn a_container_is_told_with_its_worker_and_a_signal_as_its_engine_says_it() {
    let mut worker = worker();
    worker.kind = "docker".to_owned();
    let container = Container {
        id: "abc",
        name: "wise-chicken",
        status: "running",
    };
    let earlier = (Uuid::nil(), Timestamp::UNIX_EPOCH);
    let event = worker.container(&about(), &container, Some(earlier), Timestamp::UNIX_EPOCH);
    assert_eq!(event.name, "prefect.docker.container.running");
    assert_eq!(event.follows, Some(Uuid::nil()));
    assert_eq!(
        serde_json::to_value(&event.resource).unwrap(),
        json!({"prefect.resource.id": "prefect.docker.container.abc", "prefect.resource.name": "wise-chicken"})
    );
    let last = event.related.last().unwrap();
    assert_eq!(last["prefect.resource.role"], "worker");
    assert_eq!(last["prefect.resource.id"], "prefect.worker.docker.spec-w1");
    let killed = Outcome::Signalled {
        signal: 9,
        by_us: false,
    };
    assert_eq!(status_code("docker", &killed).as_deref(), Some("137"));
    assert_eq!(status_code("process", &killed).as_deref(), Some("-9"));
}

#[test]
fn what_happened_to_infrastructure_comes_with_what_its_labels_say() {
    let labels = [
        ("flow-run-id", FLOW_RUN),
        ("flow-run-name", "wise-chicken"),
        ("flow-id", FLOW),
        ("flow-name", "hello"),
        ("work-pool-id", POOL),
        ("work-pool-name", "spec-proc"),
        ("worker-name", "Spec_w1"),
    ];
    let labels = labels.map(|(label, value)| (format!("prefect.io/{label}"), value.to_owned()));
    let happening = Happening {
        key: worker_drivers::RunKey {
            flow_run: FLOW_RUN.parse().unwrap(),
            attempt: 1,
        },
        id: Uuid::max(),
        name: "prefect.kubernetes.pod.running".to_owned(),
        occurred: Timestamp::UNIX_EPOCH,
        resource: [("prefect.resource.id".to_owned(), "pod".to_owned())].into(),
        labels: labels.into(),
        follows: Some(Uuid::nil()),
        told_since: None,
    };
    let worker = Worker {
        kind: "kubernetes".to_owned(),
        ..worker()
    };
    let mut deployed = happening.clone();
    let event = worker.happened(happening);
    assert_eq!(event.id, Uuid::max());
    assert_eq!(event.occurred, Timestamp::UNIX_EPOCH);
    assert_eq!(event.name, "prefect.kubernetes.pod.running");
    assert_eq!(event.follows, Some(Uuid::nil()));
    let one = |kind: &str, id: &str, name: &str| {
        json!({
            "prefect.resource.id": format!("prefect.{kind}.{id}"),
            "prefect.resource.role": kind,
            "prefect.resource.name": name,
        })
    };
    let spoke = json!({
        "prefect.resource.id": "prefect.worker.kubernetes.spec-w1",
        "prefect.resource.role": "worker",
        "prefect.resource.name": "Spec_w1",
        "prefect.worker-type": "kubernetes",
        "prefect.version": "3.8.8",
    });
    let expected = [
        one("flow-run", FLOW_RUN, "wise-chicken"),
        one("flow", FLOW, "hello"),
        one("work-pool", POOL, "spec-proc"),
        spoke,
    ];
    assert_eq!(related(&event), json!(expected));
    let labels = &mut deployed.labels;
    labels.insert("prefect.io/deployment-id".to_owned(), DEPLOYMENT.to_owned());
    labels.insert("prefect.io/deployment-name".to_owned(), "daily".to_owned());
    let second = &worker.happened(deployed).related[1];
    assert_eq!(
        serde_json::to_value(second).unwrap(),
        one("deployment", DEPLOYMENT, "daily")
    );
}
