"""Pulls the same buckets with the reference's steps and with ours, and prints where they differ and how long they took.

    beside.py PULL [COUNT]

Run it with a Python that has prefect-aws and s3fs, after `tests/servers/set-up`. PULL is the program that
`cargo build --release -p worker-pull --example pull` makes; COUNT the number of small objects of the bench (5000).
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
SERVERS = HERE.parent / ".cache" / "servers"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}

# Each with the keys of a bucket, and the steps that pull it.
CORPUS = {
    "plain": ["p/a.py", "p/pkg/__init__.py", "p/pkg/deep/er/b c+d%20é.txt"],
    "markers": ["p/", "p/sub/", "p/sub/a", "p/empty/"],
    "siblings": ["p/a", "p2/a", "p.py", "px"],
    "backslash": ["p/a\\b\\c"],
    "double": ["p/a//b"],
    "escape": ["p/a", "p/../../evil"],
    "missing": ["q/a"],
    "conflict": ["p/a", "p/a/b"],
}


def steps(bucket: str, url: str) -> list[tuple[str, dict]]:
    client = {"endpoint_url": url}
    fsspec = {"key": "test", "secret": "test", "client_kwargs": client}
    return [
        ("pull_from_s3", {"bucket": bucket, "folder": "p", "credentials": KEYS, "client_parameters": client}),
        ("pull_from_s3", {"bucket": bucket, "folder": "p/", "credentials": {**KEYS, "aws_client_parameters": client}}),
        ("pull_from_remote_storage", {"url": f"s3://{bucket}/p", **fsspec}),
        ("pull_from_remote_storage", {"url": f"s3://{bucket}/p/", **fsspec}),
    ]


REFERENCE = """
import asyncio, inspect, json, os, resource, sys, time
step, inputs, directory = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
os.chdir(directory)
if step == "pull_from_s3":
    from prefect_aws.deployments.steps import pull_from_s3 as run
else:
    from prefect.deployments.steps import pull_from_remote_storage as run
started = time.monotonic()
outputs = run(**inputs)
if inspect.isawaitable(outputs):
    outputs = asyncio.run(outputs)
seconds = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "peak_kib": peak, "outputs": outputs}))
"""


def start(*arguments: str) -> tuple[subprocess.Popen, str]:
    command = [SERVERS / "venv/bin/python", HERE / "s3.py", *arguments]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    return server, server.stdout.readline().strip()


def run(command: list, step: str, inputs: dict, directory: str) -> dict:
    done = subprocess.run([*command, step, json.dumps(inputs), directory], capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["?"])[-1]}
    report = json.loads(done.stdout.strip().splitlines()[-1])
    root = str(report["outputs"].get("directory", ""))
    report["outputs"]["directory"] = "." if root == directory else root
    return report


def tree(directory: str) -> dict[str, bytes]:
    root = pathlib.Path(directory)
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def both(ours: list, step: str, inputs: dict) -> tuple[dict, dict]:
    results = []
    for command in ([sys.executable, "-c", REFERENCE], ours):
        with tempfile.TemporaryDirectory() as outer:
            directory = f"{outer}/one/two"
            os.makedirs(directory)
            report = run(command, step, inputs, directory)
            results.append((report, tree(outer)))
    return tuple(results)


def compare(ours: list) -> None:
    server, url = start()
    try:
        import boto3

        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS)
        for bucket, keys in CORPUS.items():
            client.create_bucket(Bucket=bucket)
            for key in keys:
                client.put_object(Bucket=bucket, Key=key, Body=b"" if key.endswith("/") else key.encode())
            for step, inputs in steps(bucket, url):
                (theirs, their_tree), (mine, my_tree) = both(ours, step, inputs)
                what = f"{bucket:10} {step:25} {inputs.get('folder') or inputs.get('url')}"
                same = their_tree == my_tree and theirs.get("outputs") == mine.get("outputs")
                print(f"{'same  ' if same else 'DIFFER'} {what}")
                if not same:
                    print("    reference:", theirs.get("error") or theirs["outputs"], sorted(their_tree))
                    print("    ours:     ", mine.get("error") or mine["outputs"], sorted(my_tree))
    finally:
        server.kill()


def bench(ours: list, count: int) -> None:
    server, url = start("code", "p", str(count))
    try:
        step, inputs = steps("code", url)[0]
        print(f"{count} small objects: seconds of the first and second pull, peak memory in MiB")
        for name, command in (("reference", [sys.executable, "-c", REFERENCE]), ("ours", ours)):
            with tempfile.TemporaryDirectory() as directory:
                first, second = (run(command, step, inputs, directory) for _ in range(2))
                assert len(tree(directory)) == count, (first, second)
            print(f"{name:10} {first['seconds']:8.2f} {second['seconds']:8.2f} {first['peak_kib'] // 1024:6}")
    finally:
        server.kill()


if __name__ == "__main__":
    program = [str(pathlib.Path(sys.argv[1]).resolve())]
    compare(program)
    bench(program, int(sys.argv[2]) if len(sys.argv) > 2 else 5000)
