"""A flow that runs until it is cancelled, and has something to say then."""

import time
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger


def tidy_up(flow: Flow, flow_run: FlowRun, state: State) -> None:
    """Runs after the flow was stopped."""
    flow_run_logger(flow_run, flow).info("tidying up")


@flow(on_cancellation=[tidy_up])
def count() -> None:
    """Waits to be cancelled."""
    get_run_logger().info("counting")
    Path("counting").touch()
    for _ in range(300):
        time.sleep(1)
