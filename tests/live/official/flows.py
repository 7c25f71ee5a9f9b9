"""The flows that the official command line deploys."""

import time

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.concurrency.sync import concurrency


@task(retries=1, retry_delay_seconds=0, tags=["oven"])
def bake(number):
    from prefect.runtime import task_run

    if number == 1 and task_run.run_count == 1:
        raise ValueError("burnt")
    return number * 2


@flow
def count(loaves: list[int]):
    return sum(loaves)


@flow(log_prints=True)
def bakery(baker: str = "Ada", patience: float = 0):
    time.sleep(patience)
    with concurrency("shop", occupy=1):
        loaves = [bake(number) for number in range(3)]
    print(f"{baker} has baked {count(loaves)}")
    create_markdown_artifact("# bread", key="bread")
