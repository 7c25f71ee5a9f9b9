"""What `prefect deploy` wants to see of a deployment: a flow. The job variable `plain_command` has the worker run hello.sh without it."""

import subprocess

from prefect import flow


@flow(log_prints=True)
def hello() -> None:
    """Does what hello.sh does, where nobody sets `plain_command`."""
    print(subprocess.run(["./hello.sh"], check=True, capture_output=True, text=True).stdout)
