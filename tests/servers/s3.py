"""Runs moto, with a bucket filled before it listens: by requests, ten thousand objects would take two minutes.

    s3.py PORT [BUCKET FOLDER COUNT]
"""

import sys

from moto.s3.models import s3_backends
from moto.server import main


def fill(bucket: str, folder: str, count: int) -> None:
    backend = s3_backends["123456789012"]["aws"]
    backend.create_bucket(bucket, "us-east-1")
    for number in range(count):
        backend.put_object(bucket, f"{folder}/{number % 100:03}/{number}.txt", f"object {number}".encode())


if __name__ == "__main__":
    port, *wanted = sys.argv[1:]
    if wanted:
        fill(wanted[0], wanted[1], int(wanted[2]))
    main(["-H", "127.0.0.1", "-p", port])
