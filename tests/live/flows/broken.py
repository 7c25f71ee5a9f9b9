"""A flow that cannot be imported."""

import a_module_that_is_not_there
from prefect import flow


@flow
def broken() -> None:
    """Never gets this far."""
    a_module_that_is_not_there.use()
