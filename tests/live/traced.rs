//! Prefect's engine makes its spans below ours.

use std::fs;

use worker_tests::{prefect::Python, program::Program};

use crate::PROGRAM;

/// A flow whose SDK is this: it says what each span is below, and what the variable says that is for any program.
const FLOW: &str = r#"
import os
from pathlib import Path

from opentelemetry import trace
from prefect import flow


def say(line):
    with Path(__file__).with_name("said").open("a") as file:
        print(line, file=file)


class Said(trace.NoOpTracer):
    def start_span(self, name, context=None, **kwargs):
        above = trace.get_current_span(context).get_span_context()
        say(f"a span below {above.trace_id:032x}-{above.span_id:016x}")
        return super().start_span(name, context, **kwargs)


class Provider(trace.NoOpTracerProvider):
    def get_tracer(self, *arguments, **kwargs):
        return Said()


trace.set_tracer_provider(Provider())
say(f"a job below {os.environ['TRACEPARENT'][3:-3]}")


@flow
def traced():
    pass
"#;

const MANIFEST: &str = "deployments:\n  - {name: traced, entrypoint: 'flow.py:traced', work_pool: {name: demo, type: process}}\n";

#[test]
fn the_span_of_a_flow_is_below_the_span_of_its_run() {
    let python = Python::installed();
    // Nobody listens there: what becomes of spans is nothing to the job.
    let program = Program::new(PROGRAM)
        .with("PATH", python.path())
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    let place = program.directory("traced");
    fs::write(place.join("flow.py"), FLOW).expect("the directory is ours");
    fs::write(place.join("prefect.yaml"), MANIFEST).expect("the directory is ours");
    let finished = program
        .run(&["exec", &place.display().to_string()])
        .expect_code(0);
    let said = fs::read_to_string(place.join("said")).unwrap_or_default();
    let mut lines = said.lines();
    let ours = lines
        .next()
        .and_then(|line| line.strip_prefix("a job below "))
        .unwrap_or_else(|| panic!("{said:?}; {finished:?}"));
    let wanted = format!("a span below {ours}");
    assert_eq!(lines.next(), Some(wanted.as_str()), "{said}");
}
