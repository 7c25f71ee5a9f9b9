"""Walks every transition between states of a flow run on a server, and prints what it answered, as a table.

    python transitions.py http://127.0.0.1:4200/api > transitions.tsv

`transitions.tsv` beside this file was written by it on a Prefect server of the release it names; the test of the same
name asks the embedded API the same questions. Only the standard library is used.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone

BASE = sys.argv[1].rstrip("/")
AGENT = "prefect/3.8.8 (API 0.8.4)"


def request(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "user-agent": AGENT}
    call = urllib.request.Request(BASE + path, method=method, data=data, headers=headers)
    for pause in (0.1, 0.5, 1, 2, 5, 0):
        try:
            with urllib.request.urlopen(call) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        # A server on SQLite says 503 when its own services hold the database; nothing was stored then.
        if status != 503:
            break
        time.sleep(pause)
    return status, json.loads(text) if text else None


def must(method, path, body=None):
    status, answer = request(method, path, body)
    assert status < 300, (method, path, status, answer)
    return answer


def state(kind, name=None, data=None, **details):
    body = {"type": kind, "state_details": details}
    if name:
        body["name"] = name
    if data:
        body["data"] = data
    return body


def soon(seconds):
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


RESULT = {"type": "reference", "storage_key": "k"}

# How a run gets into the state it leaves: (what it is called, infrastructure id, retries, forced states).
FROM = {
    "SCHEDULED": (None, None, []),
    "SCHEDULED in an hour": (None, None, [lambda: state("SCHEDULED", scheduled_time=soon(3600))]),
    "SCHEDULED with infrastructure": ("123", None, []),
    "SCHEDULED AwaitingRetry": ("123", None, [lambda: state("RUNNING"), lambda: state("SCHEDULED", "AwaitingRetry")]),
    "SCHEDULED Late": (None, None, [lambda: state("SCHEDULED", "Late")]),
    "SCHEDULED Resuming": ("123", None, [lambda: state("SCHEDULED", "Resuming")]),
    "PENDING": (None, None, [lambda: state("PENDING")]),
    "PENDING in an hour": (None, None, [lambda: state("PENDING", scheduled_time=soon(3600))]),
    "PENDING Submitting": (None, None, [lambda: state("PENDING"), lambda: state("PENDING", "Submitting")]),
    "RUNNING": ("123", None, [lambda: state("PENDING"), lambda: state("RUNNING")]),
    "RUNNING with a retry left": ("123", 1, [lambda: state("RUNNING")]),
    "RUNNING with no retry left": ("123", 1, [lambda: state("RUNNING"), lambda: state("SCHEDULED"), lambda: state("RUNNING")]),
    "PAUSED": ("123", None, [lambda: state("RUNNING"), lambda: state("PAUSED", pause_key="a", pause_timeout=soon(300))]),
    "PAUSED Suspended": ("123", None, [lambda: state("RUNNING"), lambda: state("PAUSED", "Suspended", pause_reschedule=True, pause_timeout=soon(300))]),
    "PAUSED too long": ("123", None, [lambda: state("RUNNING"), lambda: state("PAUSED", pause_timeout=soon(-300))]),
    "CANCELLING": ("123", None, [lambda: state("RUNNING"), lambda: state("CANCELLING")]),
    "COMPLETED": ("123", None, [lambda: state("RUNNING"), lambda: state("COMPLETED")]),
    "COMPLETED with a result": ("123", None, [lambda: state("RUNNING"), lambda: state("COMPLETED", data=RESULT)]),
    "FAILED": ("123", None, [lambda: state("RUNNING"), lambda: state("FAILED")]),
    "CRASHED": ("123", None, [lambda: state("RUNNING"), lambda: state("CRASHED")]),
    "CANCELLED": ("123", None, [lambda: state("RUNNING"), lambda: state("CANCELLED")]),
}

TO = {
    "SCHEDULED": lambda: state("SCHEDULED"),
    "SCHEDULED Late": lambda: state("SCHEDULED", "Late"),
    "SCHEDULED AwaitingRetry": lambda: state("SCHEDULED", "AwaitingRetry"),
    "PENDING": lambda: state("PENDING"),
    "PENDING Submitting": lambda: state("PENDING", "Submitting"),
    "RUNNING": lambda: state("RUNNING"),
    "PAUSED": lambda: state("PAUSED", pause_key="b"),
    "PAUSED again": lambda: state("PAUSED", pause_key="a"),
    "PAUSED Suspended": lambda: state("PAUSED", "Suspended", pause_reschedule=True),
    "CANCELLING": lambda: state("CANCELLING"),
    "COMPLETED": lambda: state("COMPLETED"),
    "COMPLETED with a result": lambda: state("COMPLETED", data=RESULT),
    "FAILED": lambda: state("FAILED"),
    "CRASHED": lambda: state("CRASHED"),
    "CANCELLED": lambda: state("CANCELLED"),
}


COLUMNS = [
    "from", "to", "variants", "http", "status", "state", "run_state", "run_count", "flags", "retry_type", "pause_keys",
    "message", "reason",
]


def answer_of(run, status, answer):
    """What matters of an answer, and of the run after it, without times and identifiers."""
    after = must("GET", f"/flow_runs/{run}")
    kept, policy = answer["state"], after["empirical_policy"]
    flags = {
        "due": kept["state_details"].get("scheduled_time"),
        "started": after["start_time"],
        "ended": after["end_time"],
        "next": after["next_scheduled_start_time"],
        "resuming": policy["resuming"] or None,
    }
    return (
        status,
        answer["status"],
        f"{kept['type']} {kept['name']}",
        f"{after['state_type']} {after['state_name']}",
        after["run_count"],
        ",".join(flag for flag, value in flags.items() if value is not None) or "-",
        policy["retry_type"] or "-",
        len(policy["pause_keys"]),
        kept["message"] or "-",
        answer["details"].get("reason") or "-",
    )


def make_run(flow, deployment, name):
    infrastructure, retries, steps = FROM[name]
    policy = {"retries": retries, "retry_delay": 0}
    if deployment:
        run = must("POST", f"/deployments/{deployment}/create_flow_run", {"empirical_policy": policy})
    else:
        run = must("POST", "/flow_runs/", {"flow_id": flow, "state": state("SCHEDULED"), "empirical_policy": policy})
    run = run["id"]
    if infrastructure:
        must("PATCH", f"/flow_runs/{run}", {"infrastructure_pid": infrastructure})
    for step in steps:
        must("POST", f"/flow_runs/{run}/set_state", {"state": step(), "force": True})
    return run


def main():
    suffix = datetime.now(timezone.utc).strftime("%H%M%S%f")
    pool = f"transitions-{suffix}"
    must("POST", "/work_pools/", {"name": pool, "type": "process"})
    flow = must("POST", "/flows/", {"name": pool})["id"]
    deployment = must("POST", "/deployments/", {"name": "d", "flow_id": flow, "work_pool_name": pool})["id"]
    print("# Prefect", must("GET", "/admin/version"))
    print("\t".join(COLUMNS))
    for source in FROM:
        for target, make in TO.items():
            answers = {}
            for variant in ("deployment", "alone", "force"):
                run = make_run(flow, None if variant == "alone" else deployment, source)
                body = {"state": make(), "force": variant == "force"}
                answer = answer_of(run, *request("POST", f"/flow_runs/{run}/set_state", body))
                answers.setdefault(answer, []).append(variant)
                must("DELETE", f"/flow_runs/{run}")
            for answer, variants in answers.items():
                print("\t".join(map(str, (source, target, ",".join(variants), *answer))))


if __name__ == "__main__":
    main()
