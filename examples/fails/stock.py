"""A flow that raises."""

from prefect import flow, get_run_logger


@flow
def check(shelf: str) -> None:
    """Fails, whatever the shelf."""
    get_run_logger().info("looking at the shelf: %s", shelf)
    raise ValueError(f"the shelf is {shelf}")
