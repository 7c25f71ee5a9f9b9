"""A flow whose module takes long to import, so that its flow run stays Pending while its process lives."""

import time
from pathlib import Path

from prefect import flow

mark = Path("importing")
# Whoever looks for hooks when the flow run was cancelled imports it again, and should not have to wait.
if not mark.exists():
    mark.touch()
    time.sleep(300)


@flow
def slow() -> None:
    """Never gets this far."""
