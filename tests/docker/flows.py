"""Flows that are baked into the image the Docker tests use."""

import os
import time

from prefect import flow


@flow(log_prints=True)
def hello(name: str = "world"):
    print(f"hello {name} from {os.getcwd()}")


def tell(flow, flow_run, state):
    print("on_cancellation ran", flush=True)


@flow(log_prints=True, on_cancellation=[tell])
def sleeps(seconds: int = 600):
    print("sleeping")
    for _ in range(10 * seconds):
        time.sleep(0.1)


@flow
def exits():
    os._exit(3)


@flow
def fails():
    raise ValueError("no such luck")
