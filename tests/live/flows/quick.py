"""A flow that has nothing to do."""

from prefect import flow


@flow
def quick() -> None:
    """Ends at once."""
