"""Runs the hooks of a flow whose engine has gone without running them.

The shim starts this in place of the engine, with its environment and in its directory. The argument says which hooks. Nobody reads
what this prints; what people should see goes to the log of the flow run.
"""

import asyncio
import inspect
import os
import sys
import uuid

from prefect.client.orchestration import get_client
from prefect.flows import load_flow_from_entrypoint
from prefect.logging.loggers import flow_run_logger
from prefect.states import Crashed


def call(hook, **arguments):
    result = hook(**arguments)
    if inspect.isawaitable(result):

        async def wait():
            return await result

        asyncio.run(wait())


def main(which):
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(uuid.UUID(os.environ["PREFECT__FLOW_RUN_ID"]))
    state = flow_run.state
    if which == "crashed":
        # An engine of an old release has no other way to tell us that it has reported an end, or that it waits for a retry.
        if not (state.is_running() or state.is_pending()):
            return
        state = Crashed(message="The process of the flow run has ended without reporting a state.")
    elif not state.is_cancelling():
        return
    flow = load_flow_from_entrypoint(
        os.environ["PREFECT__FLOW_ENTRYPOINT"], use_placeholder_flow=False
    )
    logger = flow_run_logger(flow_run, flow)
    for hook in getattr(flow, f"on_{which}_hooks"):
        name = getattr(hook, "__name__", type(hook).__name__)
        try:
            call(hook, flow=flow, flow_run=flow_run, state=state)
        except Exception:
            logger.exception("Hook %r failed", name)


main(sys.argv[1])
