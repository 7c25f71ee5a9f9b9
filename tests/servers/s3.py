"""Runs moto on a port of its own, says where, and ends with whoever holds its input.

    s3.py [BUCKET FOLDER COUNT]

With arguments, a bucket is filled before it listens: by requests, ten thousand objects would take two minutes.
"""

import sys

from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.s3.models import s3_backends


def fill(bucket: str, folder: str, count: int) -> None:
    backend = s3_backends["123456789012"]["aws"]
    backend.create_bucket(bucket, "us-east-1")
    for number in range(count):
        backend.put_object(bucket, f"{folder}/{number % 100:03}/{number}.txt", f"object {number}".encode())


if __name__ == "__main__":
    if wanted := sys.argv[1:]:
        fill(wanted[0], wanted[1], int(wanted[2]))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()
