"""A flow that takes its time, and has something to say when it is cancelled."""

import time

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger


def tidy_up(flow: Flow, flow_run: FlowRun, state: State) -> None:
    """Runs after the flow was stopped, before the flow run is Cancelled."""
    flow_run_logger(flow_run, flow).info("cancelled: tidying up")


@flow(on_cancellation=[tidy_up])
def count(seconds: int = 600) -> None:
    """Counts seconds.

    Args:
        seconds: How far to count.
    """
    logger = get_run_logger()
    for second in range(1, seconds + 1):
        logger.info("second %d of %d", second, seconds)
        time.sleep(1)
