"""A flow that is baked into an image."""

import platform

from prefect import flow


@flow(log_prints=True)
def where():
    print(f"Hello from Python {platform.python_version()} on {platform.node()}.")


if __name__ == "__main__":
    where()
