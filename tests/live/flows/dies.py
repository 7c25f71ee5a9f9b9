"""A flow that dies without a word, and has something to say then."""

import os
import time

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger


def mourn(flow: Flow, flow_run: FlowRun, state: State) -> None:
    """Runs after the process of the flow has gone."""
    flow_run_logger(flow_run, flow).info("mourning, %s", state.name)


@flow(on_crashed=[mourn])
def dies() -> None:
    """Says something, and is gone as if it had been killed."""
    get_run_logger().info("last words")
    # What a process logs goes out every two seconds.
    time.sleep(3)
    os._exit(7)
