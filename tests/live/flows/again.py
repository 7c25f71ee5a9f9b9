"""A flow that succeeds when it is tried for the second time."""

from itertools import count

from prefect import flow, get_run_logger

tries = count(1)


@flow(retries=1, retry_delay_seconds=1)
def again() -> None:
    """Fails the first time."""
    this = next(tries)
    get_run_logger().info("try %d", this)
    if this == 1:
        raise ValueError("not yet")
