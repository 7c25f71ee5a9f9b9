"""Runs lists of pull steps with the reference's own step runner, each in a process of its own, and prints what came of them.

    steps.py < ORDER

ORDER is JSON: blocks and variables to make on the server first, and cases, each with its steps, its directory, its environment.
The answer is one line of JSON a case: the outputs, where the steps ended, and the error with the place of the step that had it.
"""

import asyncio
import json
import os
import sys
import tempfile
import warnings

warnings.simplefilter("ignore")

from prefect.client.orchestration import get_client  # noqa: E402
from prefect.client.schemas.actions import BlockDocumentCreate, VariableCreate  # noqa: E402
from prefect.deployments.steps import core  # noqa: E402

# So many at once: they mostly wait, for servers and for their own delays between tries.
AT_ONCE = 6


async def prepare(blocks: list, variables: dict) -> None:
    async with get_client() as client:
        for block in blocks:
            block_type = await client.read_block_type_by_slug(block["type"])
            schema = await client.get_most_recent_block_schema_for_block_type(block_type.id)
            document = BlockDocumentCreate(
                name=block["name"], data=block["data"], block_schema_id=schema.id, block_type_id=block_type.id
            )
            await client.create_block_document(document)
        for name, value in variables.items():
            await client.create_variable(VariableCreate(name=name, value=value))


def carry_out(case: dict) -> dict:
    os.environ.update(case["environment"])
    os.chdir(case["directory"])
    begun = []

    def say(text: str, **_style) -> None:
        if text.startswith(" > Running "):
            begun.append(text)

    result = {"outputs": {}, "error": None}
    try:
        result["outputs"] = asyncio.run(core.run_steps(case["steps"], print_function=say))
    except Exception as error:
        cause = error.__cause__ or error
        result["error"] = {"index": max(len(begun) - 1, 0), "text": f"{type(cause).__name__}: {cause}"}
    ends = result["outputs"].get("directory") or ""
    result["directory"] = os.path.realpath(os.path.join(os.getcwd(), str(ends)))
    return result


def begin(case: dict) -> tuple[int, str]:
    handle, path = tempfile.mkstemp()
    os.close(handle)
    child = os.fork()
    if child == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        status = 1
        try:
            with open(path, "w") as file:
                json.dump(carry_out(case), file, default=str)
            status = 0
        finally:
            os._exit(status)
    return child, path


def main() -> None:
    order = json.load(sys.stdin)
    asyncio.run(prepare(order["blocks"], order["variables"]))
    open_cases, waiting = {}, list(order["cases"])
    while open_cases or waiting:
        while waiting and len(open_cases) < AT_ONCE:
            case = waiting.pop(0)
            child, path = begin(case)
            open_cases[child] = (case["name"], path)
        child, _status = os.wait()
        if child not in open_cases:
            continue
        name, path = open_cases.pop(child)
        with open(path) as file:
            text = file.read()
        os.unlink(path)
        print(json.dumps({"name": name, **json.loads(text or '{"died": true}')}), flush=True)


if __name__ == "__main__":
    main()
