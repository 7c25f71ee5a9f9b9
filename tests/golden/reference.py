"""Runs Prefect's own worker classes on a case: from a pool's template to the job configuration that a run starts with.

Everything that a worker reads from outside is part of the case: the API is a stub, and settings, environment, working directory and
engine version are given. What comes out is what `from_template_and_values` and `prepare_for_flow_run` made, as plain JSON.
"""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import platform
import sys
import warnings
from pathlib import Path, PurePath
from types import SimpleNamespace
from unittest import mock
from uuid import UUID

import prefect
from prefect.client.schemas.objects import BlockDocument, Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.utilities.dockerutils import get_prefect_image_name
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker
from prefect_docker.worker import DockerWorker, DockerWorkerJobConfiguration
from prefect_kubernetes.worker import (
    KubernetesWorker,
    KubernetesWorkerJobConfiguration,
)
from pydantic import BaseModel, SecretStr

CLASSES = {
    "process": (ProcessWorker, ProcessJobConfiguration),
    "docker": (DockerWorker, DockerWorkerJobConfiguration),
    "kubernetes": (KubernetesWorker, KubernetesWorkerJobConfiguration),
}

# Old enough releases cannot do without it, and all that are tested map `host.docker.internal`.
ENGINE_VERSION = "24.0.7"


def release() -> dict[str, str]:
    """What is installed here, and what of it shows in job configurations."""
    packages = ["prefect", "prefect-docker", "prefect-kubernetes", "jsonpatch", "pydantic", "python-slugify"]
    return {
        **{name: importlib.metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "default_image": get_prefect_image_name(),
    }


def default_templates() -> dict[str, dict]:
    """The templates that pools start with: a worker's own, and what the server offers in its UI."""
    # The file, and not its module: an old server does not start beside new packages.
    views = Path(prefect.__file__).parent / "server/api/collections_data/views"
    offered = json.loads((views / "aggregate-worker-metadata.json").read_text(encoding="utf-8"))
    found = {}
    for kind, (worker, _) in CLASSES.items():
        found[kind] = worker.get_default_base_job_template()
        found[f"{kind}-registry"] = next(
            entry[kind]["default_base_job_configuration"] for entry in offered.values() if kind in entry
        )
    return json.loads(json.dumps(found))


def resolve(kind: str, given: dict) -> dict:
    """Runs one case: `{"job": …}`, or `{"error": …}` where the reference raises."""
    try:
        with _world(given), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            configuration = asyncio.run(_configure(kind, given))
            return {"job": _plain(FINISH[kind](configuration))}
    except Exception as error:  # noqa: BLE001: whatever it raises is the answer
        lines = str(error).strip().splitlines()
        return {"error": {"class": type(error).__name__, "message": lines[0] if lines else ""}}


async def _configure(kind, given):
    _, configuration_class = CLASSES[kind]
    client = _Client(given)
    flow_run = FlowRun.model_validate(given["flow_run"])
    pool = WorkPool.model_validate({**given["pool"], "type": kind, "base_job_template": {}})
    # Whatever a pool's template is by now, it came from the API as it is.
    pool.base_job_template = given["template"]
    worker_id = given["worker"].get("id")
    if hasattr(configuration_class, "resolve_for_flow_run"):
        return await configuration_class.resolve_for_flow_run(
            flow_run,
            client=client,
            work_pool=pool,
            worker_name=given["worker"]["name"],
            worker_id=worker_id and UUID(worker_id),
        )
    # Before 3.7 it was a part of the worker.
    worker = SimpleNamespace(
        client=client,
        _client=client,
        work_pool=pool,
        _work_pool=pool,
        name=given["worker"]["name"],
        backend_id=worker_id and UUID(worker_id),
        job_configuration=configuration_class,
    )
    deployment = await client.read_deployment(flow_run.deployment_id) if flow_run.deployment_id else None
    return await BaseWorker._get_configuration(worker, flow_run, deployment)


class _Client:
    """Answers what a worker asks while it resolves."""

    def __init__(self, given):
        self.given = given

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None

    async def read_deployment(self, _):
        return DeploymentResponse.model_validate(self.given["deployment"])

    async def read_flow(self, _):
        return Flow.model_validate(self.given["flow"])

    async def read_block_document_by_name(self, name, block_type_slug, include_secrets=True):
        return self._block(lambda block: (block["type"], block["name"]) == (block_type_slug, name))

    async def read_block_document(self, block_document_id, include_secrets=True):
        return self._block(lambda block: block["id"] == str(block_document_id))

    async def read_variable_by_name(self, name):
        values = self.given["variables"]
        return SimpleNamespace(name=name, value=values[name]) if name in values else None

    def _block(self, is_it):
        for block in self.given["blocks"]:
            if is_it(block):
                return BlockDocument.model_construct(name=block["name"], data=block["data"])
        raise ObjectNotFound(http_exc=Exception("404"))


# The client is handed through a helper that asks for its type.
@contextlib.contextmanager
def _world(given):
    settings = dict(given["settings"])
    stub = SimpleNamespace(to_environment_variables=lambda exclude_unset: dict(settings))
    api_url = SimpleNamespace(value=lambda: settings.get("PREFECT_API_URL"))
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch("prefect.workers.base.get_current_settings", lambda: stub))
        stack.enter_context(mock.patch("prefect_docker.worker.PREFECT_API_URL", api_url))
        stack.enter_context(mock.patch.dict(os.environ, given["environment"], clear=True))
        stack.enter_context(mock.patch("os.getcwd", lambda: given["directory"]))
        for module in ("prefect.utilities.templating", "prefect.workers.base"):
            inject = sys.modules[module].inject_client
            assert inject, module
        stack.enter_context(mock.patch("prefect.client.utilities.get_or_create_client", lambda client: (client, True)))
        yield


# === what is kept of a configuration ===


def _finish_process(configuration):
    configured = getattr(configuration, "_command_configured", None)
    if configured is None:
        configured = not configuration.command.endswith("prefect.engine")
    fields = configuration.model_dump()
    # The program of an interpreter is where this generator runs, not a part of the job.
    return {**fields, "command": configuration.command if configured else None}


def _finish_docker(configuration):
    from docker.utils import split_command

    engine = SimpleNamespace(version=lambda: {"Version": ENGINE_VERSION})
    request = DockerWorker._build_container_settings(None, engine, configuration)
    extra_hosts = request["extra_hosts"]
    if isinstance(extra_hosts, list):
        extra_hosts = dict(entry.split(":", 1) for entry in extra_hosts)
    known = {
        "image", "network", "network_mode", "command", "environment", "auto_remove", "labels", "extra_hosts", "name",
        "volumes", "mem_limit", "memswap_limit", "privileged",
    }  # fmt: skip
    credentials = configuration.registry_credentials
    return {
        **{name: value for name, value in request.items() if name in known},
        "command": split_command(request["command"]),
        "extra_hosts": extra_hosts or {},
        "networks": configuration.networks,
        "stream_output": configuration.stream_output,
        "pull_policy": configuration._determine_image_pull_policy().value,
        "registry_credentials": credentials
        and {
            "username": credentials.username,
            "password": credentials.password,
            "registry_url": credentials.registry_url,
            "reauth": credentials.reauth,
        },
        "create_kwargs": {name: value for name, value in request.items() if name not in known},
    }


def _finish_kubernetes(configuration):
    container = configuration.job_manifest["spec"]["template"]["spec"]["containers"][0]
    container["env"] = _ordered(container["env"])
    cluster = configuration.cluster_config
    return {
        "job_manifest": configuration.job_manifest,
        "namespace": configuration.namespace,
        "name": configuration.name,
        "cluster_config": cluster and {"config": cluster.config, "context_name": cluster.context_name},
        "job_watch_timeout_seconds": configuration.job_watch_timeout_seconds,
        "pod_watch_timeout_seconds": configuration.pod_watch_timeout_seconds,
        "stream_output": configuration.stream_output,
    }


def _ordered(env):
    """Prefect's own variables first and by name; the others stay in the order in which people wrote them.

    Order matters to a container only where a value names an earlier variable, as in `$(NAME)`.
    """
    own = [entry for entry in env if str(entry.get("name")).startswith("PREFECT_") and "value" in entry]
    return sorted(own, key=lambda entry: entry["name"]) + [entry for entry in env if entry not in own]


FINISH = {"process": _finish_process, "docker": _finish_docker, "kubernetes": _finish_kubernetes}


def _plain(value):
    if isinstance(value, BaseModel):
        return _plain(value.model_dump())
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
