"""What people do with the official client: each step says its name when it is done, and the first that fails ends it."""

import asyncio
import threading
import time
import uuid

from prefect import flow, get_client, pause_flow_run, resume_flow_run, task
from prefect.artifacts import Artifact, create_table_artifact
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import rate_limit
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.input import RunInput, receive_input
from prefect.input.run_input import send_input
from prefect.transactions import transaction
from prefect.variables import Variable
from pydantic import SecretStr

STEPS = []


def step(function):
    STEPS.append(function)
    return function


class Account(Block):
    user: str
    password: SecretStr


class Shop(Block):
    account: Account
    shelves: int = 1


class Answer(RunInput):
    loaves: int


@step
def blocks_keep_what_is_in_them_and_cover_their_secrets():
    Secret(value="flour").save("recipe", overwrite=True)
    assert Secret.load("recipe").get() == "flour"
    Account(user="ada", password="apart").save("ada", overwrite=True)
    Shop(account=Account.load("ada"), shelves=3).save("corner", overwrite=True)
    Shop(account=Account(user="grace", password="inside")).save("square", overwrite=True)
    corner = Shop.load("corner")
    assert (corner.shelves, corner.account.password.get_secret_value()) == (3, "apart")
    assert Shop.load("square").account.password.get_secret_value() == "inside"
    with get_client(sync_client=True) as client:
        shown = str(client.read_block_documents(include_secrets=False))
        assert "corner" in shown
        assert not any(secret in shown for secret in ("flour", "apart", "inside")), shown
    Shop.delete("square")


@step
def variables_are_json():
    for value in ({"a": [1, None]}, [], 7, "text", True):
        Variable.set("order", value, tags=["bread"], overwrite=True)
        assert Variable.get("order") == value
    Variable.unset("order")
    assert Variable.get("order", default=5) == 5


@step
def a_flow_waits_for_an_input():
    @flow
    def shop():
        return pause_flow_run(wait_for_input=Answer, timeout=60, poll_interval=1).loaves

    def answer():
        with get_client(sync_client=True) as client:
            while True:
                for run in client.read_flow_runs(limit=20):
                    if run.state.is_paused():
                        return resume_flow_run(run.id, run_input={"loaves": 7})
                time.sleep(0.2)

    helper = threading.Thread(target=answer, daemon=True)
    helper.start()
    assert shop() == 7
    helper.join()


@step
def a_flow_hears_what_it_is_sent():
    @flow
    def shop():
        from prefect.runtime import flow_run

        send_input("two, please", flow_run_id=uuid.UUID(flow_run.id))
        for order in receive_input(str, timeout=10, poll_interval=1):
            return order

    assert shop() == "two, please"


@step
def a_flow_is_tried_again_and_keeps_its_rate():
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name="bell", limit=1, slot_decay_per_second=20)
        )
    tries = []

    @task
    def ring():
        rate_limit("bell")

    @flow(retries=2)
    def shop():
        tries.append(1)
        with transaction():
            ring()
            ring()
        if len(tries) < 3:
            raise ValueError("closed")
        create_table_artifact([{"loaf": 1}], key="shelf")

    assert shop(return_state=True).is_completed() and len(tries) == 3
    assert Artifact.get("shelf").type == "table"


@step
def runs_of_deployments_are_made_once_and_only_with_parameters_that_fit():
    first = run_deployment("bakery/stall", timeout=0, idempotency_key="one", tags=["mine"])
    assert run_deployment("bakery/stall", timeout=0, idempotency_key="one").id == first.id
    assert first.state.is_scheduled() and "mine" in first.tags
    try:
        run_deployment("bakery/stall", timeout=0, parameters={"patience": "none"})
    except Exception as error:
        assert "409" in str(error), error
    else:
        raise AssertionError("taken although it does not fit")
    with get_client(sync_client=True) as client:
        client.delete_flow_run(first.id)


@step
def events_are_heard_and_found():
    async def hear():
        wanted = EventFilter(event=EventNameFilter(name=["shop.opened"]))
        async with get_events_subscriber(filter=wanted) as subscriber:
            emit_event("shop.opened", resource={"prefect.resource.id": "shop.1"})
            async for event in subscriber:
                return event.resource.id

    assert asyncio.run(asyncio.wait_for(hear(), 20)) == "shop.1"
    with get_client(sync_client=True) as client:
        wanted = EventFilter(event=EventNameFilter(prefix=["prefect.flow-run.Paused"]))
        body = {"filter": wanted.model_dump(mode="json")}
        assert client._client.post("/events/filter", json=body).json()["total"] > 0


@step
def what_a_client_reads_can_be_read():
    async def read():
        async with get_client() as client:
            assert await client.read_automations() == []
            assert await client.read_work_pools() and await client.read_work_queues()
            assert await client.read_flows() and await client.read_deployments()
            assert await client.read_task_runs() and await client.read_block_types()
            assert await client.read_global_concurrency_limits(limit=5, offset=0)
            assert await client.read_worker_metadata() == {}

    asyncio.run(read())


for function in STEPS:
    function()
    print("done:", function.__name__, flush=True)
