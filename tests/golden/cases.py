"""The inputs of the golden corpus: interesting ones by hand, their combinations, and a seeded composer.

A case is a name and what it says that `COMMON` does not; `cases` gives those of one kind of pool. A template is a name in `common.json`
or the template itself. Nothing here knows what comes out.
"""

import collections
import copy
import itertools
import random

FLOW_RUN = {
    "id": "11111111-1111-4111-8111-111111111111",
    "name": "adventurous-otter",
    "flow_id": "22222222-2222-4222-8222-222222222222",
    "deployment_id": "33333333-3333-4333-8333-333333333333",
    "parameters": {"day": "2026-01-02", "size": 3},
    "tags": ["nightly", "größe"],
    "run_count": 0,
}
FLOW = {"id": FLOW_RUN["flow_id"], "name": "etl", "tags": [], "labels": {}}
DEPLOYMENT = {
    "id": FLOW_RUN["deployment_id"],
    "name": "prod",
    "flow_id": FLOW_RUN["flow_id"],
    "entrypoint": "flows.py:etl",
    "updated": "2026-01-02T03:04:05.678900Z",
}
SECRET_ID = "44444444-4444-4444-8444-444444444444"
REGISTRY_ID = "55555555-5555-4555-8555-555555555555"
CLUSTER_ID = "66666666-6666-4666-8666-666666666666"

COMMON = {
    "template": None,
    "flow_run": FLOW_RUN,
    "flow": FLOW,
    "deployment": DEPLOYMENT,
    "deployment_variables": {},
    "flow_run_variables": {},
    "pool": {"id": "77777777-7777-4777-8777-777777777777", "name": "pool-1"},
    "worker": {"name": "worker 1"},
    "settings": {"PREFECT_API_KEY": "pnu_1", "PREFECT_API_URL": "https://api.example.com/api"},
    "environment": {"HOME": "/home/worker", "SECRETX": "s3cret", "EMPTY": "", "BRACES": "{{ command }}"},
    "directory": "/srv/worker",
    "blocks": [
        {"type": "secret", "name": "token", "id": SECRET_ID, "data": {"value": "t0ken"}},
        {"type": "json", "name": "nested", "id": "88888888-8888-4888-8888-888888888881",
         "data": {"value": {"a": {"b": [1, {"c": "deep"}]}, "n": None, "values": "inner", "x-y": 2}}},
        {"type": "json", "name": "with-dash", "id": "88888888-8888-4888-8888-888888888882", "data": {"a": 1, "value": {"b": 2}}},
        {"type": "json", "name": "number", "id": "88888888-8888-4888-8888-888888888883", "data": {"value": 7.5}},
        {"type": "json", "name": "none", "id": "88888888-8888-4888-8888-888888888884", "data": {"value": None}},
        {"type": "json", "name": "empty", "id": "88888888-8888-4888-8888-888888888885", "data": {}},
        {"type": "json", "name": "brings-variable", "id": "88888888-8888-4888-8888-888888888886",
         "data": {"value": "{{ prefect.variables.text }}/{{ prefect.blocks.secret.token }}/{{ command }}"}},
        {"type": "docker-registry-credentials", "name": "registry", "id": REGISTRY_ID,
         "data": {"username": "u", "password": "p", "registry_url": "https://r.example.com", "block_type_slug": "docker-registry-credentials"}},
        {"type": "kubernetes-cluster-config", "name": "cluster", "id": CLUSTER_ID,
         "data": {"config": {"apiVersion": "v1", "clusters": [], "contexts": [{"name": "c"}]}, "context_name": "c"}},
    ],
    "variables": {
        "text": "plain", "number": 5, "fraction": 1.5, "yes": True, "none": None, "list": [1, "two"], "object": {"a": {"b": 1}},
        "empty": "", "placeholder": "{{ prefect.variables.text }} {{ command }}", "unicode": "日本 ß",
    },
}  # fmt: skip

# Every type of JSON, and what is easily written in another way.
VALUES = [
    None, True, False, 0, 1, -1, 9007199254740993, 1.0, -0.5, 1e16, 1e-7, 123456789.125, "", " ", "text", "ünï 日本 😀", "it's", 'a "b"',
    "it's \"c\"", "tab\tline\nback\\ nul\u0001 \u00a0\u200b\u2028", [], {}, [1, [2.5, {"a": None}], "b'"], {"k": {"n": [True]}, "ß": 'x"y'},
    "{{ other }}", "{{ prefect.variables.text }}", "{{ prefect.blocks.secret.token }}", "{{ $HOME }}", "5", "true", "null",
]  # fmt: skip

# Placeholders and what looks like one. `v` has the value of the case, `w` is "W", `deep` is nested.
FORMS = [
    "{{ v }}", "{{v}}", "{{\tv\n}}", " {{ v }}", "x{{ v }}y", "{{ v }}{{ v }}", "{{ v }} and {{ w }}", "{{{ v }}}", "{{ v }", "{ { v } }",
    "{{ v|upper }}", "{{ v w }}", "{{ }}", "{{}}", "{{ v.a }}", "{{ v[0] }}", "x{{ v.k }}",
]  # fmt: skip
PATHS = [
    "{{ deep.a.b[0].c }}", "{{ deep.a.b.0.c }}", "{{ deep.a.b[1] }}", "{{ deep.a.b[-1] }}", "{{ deep.a.b[7] }}", "{{ deep.a.b.c }}",
    "{{ deep.0 }}", "{{ deep[a] }}", "{{ deep.a-b }}", "{{ deep.a_b }}", "{{ deep.text[0] }}", "{{ deep.text[-2] }}", "{{ deep.text.x }}",
    "x{{ deep.a }}y", "{{ deep. }}", "{{ .deep }}", "{{ deep..a }}", "{{ größe }}", "{{ größe.ß }}", "{{ 变量 }}", "{{ v² }}", "{{ a$b }}",
    "{{ missing }}", "x{{ missing }}y", "{{ missing }}{{ w }}", "{{ missing.a[0] }}", "{{ deep.n }}", "{{ deep.n.x }}", "{{ deep.١ }}",
    "{{ deep.a.b.1_0 }}", "{{ deep.a.b.+0 }}",
]  # fmt: skip
ENVIRONMENT_FORMS = [
    "{{ $HOME }}", "a{{ $HOME }}b", "{{ $HOME }}{{ $SECRETX }}", "{{ $MISSING }}", "x{{ $MISSING }}y", "{{ $EMPTY }}", "{{ $$HOME }}", "{{ $ }}",
    "{{ $home }}", "$HOME", "{{ HOME }}", "{{ $BRACES }}", "{{ ctx.flow.name }}", "x{{ ctx.flow_run.id }}",
]  # fmt: skip
BLOCK_FORMS = [
    "{{ prefect.blocks.secret.token }}", "x{{ prefect.blocks.secret.token }}y", "{{ prefect.blocks.secret.token.value }}",
    "{{ prefect.blocks.secret.missing }}", "{{ prefect.blocks.secret }}", "{{ prefect.blocks. }}", "{{ prefect.blocks.json.nested }}",
    "{{ prefect.blocks.json.nested.a }}", "{{ prefect.blocks.json.nested.a.b[1].c }}", "{{ prefect.blocks.json.nested.value.a.b[0] }}",
    "{{ prefect.blocks.json.nested.values }}", "{{ prefect.blocks.json.nested.value }}", "{{ prefect.blocks.json.nested.x-y }}",
    "{{ prefect.blocks.json.nested.n }}", "x{{ prefect.blocks.json.nested.n }}", "{{ prefect.blocks.json.nested.missing }}",
    "x{{ prefect.blocks.json.nested.a }}", "x{{ prefect.blocks.json.nested.a.b }}", "{{ prefect.blocks.json.with-dash }}",
    "{{ prefect.blocks.json.with-dash.value }}", "{{ prefect.blocks.json.with-dash.a }}", "{{ prefect.blocks.json.number }}",
    "n={{ prefect.blocks.json.number }}", "{{ prefect.blocks.json.none }}", "{{ prefect.blocks.json.empty }}",
    "{{ prefect.blocks.json.empty.a }}", "{{ prefect.blocks.json.brings-variable }}", "{{ prefect.blocks.secret.token.x }}",
    "{{ prefect.blocks.secret.token[0] }}", "{{ prefect.blocks.secret.token }}@{{ prefect.blocks.json.number }}",
    "{{ prefect.blocks.secret.token }} {{ w }} {{ prefect.variables.text }} {{ $HOME }}",
    {"$ref": {"block_document_id": SECRET_ID}}, {"$ref": {"block_document_id": REGISTRY_ID}, "ignored": 1},
    {"deep": [{"$ref": {"block_document_id": "88888888-8888-4888-8888-888888888881"}}]},
    {"$ref": {"block_document_id": "99999999-9999-4999-8999-999999999999"}}, {"$ref": {}}, {"$ref": {"block_document_id": ""}},
    {"$ref": {"block_document_id": None}}, {"$ref": {"other": 1}}, {"$ref": "text"}, {"$ref": None},
    {"$ref": {"block_document_id": "88888888-8888-4888-8888-888888888886"}},
]  # fmt: skip
VARIABLE_FORMS = [
    form.replace("N", name)
    for name in [*COMMON["variables"], "missing", "object.a"]
    for form in ("{{ prefect.variables.N }}", "x{{ prefect.variables.N }}y")
] + ["{{ prefect.variables. }}", "{{ prefect.variables }}", "{{ prefect.variables.text }}{{ prefect.variables.text }}",
     "{{ prefect.variables.prefect.variables.text }}", "{{ prefect.variables.list[0] }}"]  # fmt: skip

NAMES = [
    "plain", "My Flow!", "日本語", "été à Zürich", "Привет мир", "Ελλάδα", "한국어 흐름", "😀", "a😀b", "✨ run ✅", "---", "___", "._-", "-a-", "_a_",
    ".a.", "a/b/c", "a.b_c", "x" * 44, "x" * 45 + "y", "x" * 63, "x" * 64, "ab-" * 30, "x" * 300, "-" * 70 + "a", "1,000 rows", "1,2,3", "it's",
    "rock'n'roll", "“quoted” — dash…", "ﬁne ½ ²", "tab\tnew\nline", "  spaced  out  ", "UPPER lower", "None", "-", "", " ", "£100 €5 ©",
    "İstanbul ıı ß", "a" * 44 + "-b", "a" * 62 + ".b", "naïve café 北京", "a--b__c..d", "{{ ctx.flow_run.name }}-x", "{{ ctx.flow.name }}",
    "{{ ctx.flow_run.missing }}", "x{{ ctx.flow_run.missing }}", "{{ ctx.flow_run.parameters.size }}-{{ ctx.flow.id }}", "{{ctx.flow_run.tags[1]}}",
    "{{ $HOME }}", "{{ prefect.variables.unicode }}", "{{ prefect.blocks.secret.token }}-n",
]  # fmt: skip
LABELS = [
    {"team": "data"}, {"my.org/team": "Data Platform"}, {"prefect.io/flow-name": "mine"}, {"prefect.io/flow-run-id": "mine", "x": ""},
    {"a.b.c/d/e": "v"}, {"/x": "y"}, {"x/": "y"}, {"": "empty"}, {"-": "-"}, {"ключ": "значение"}, {"k" * 80: "v" * 80},
    {"p" * 260 + "/n": "v"}, {"UPPER.Case/Key": "MiXed"}, {"a b": "c d"}, {"日本/語": "😀"}, {"_x_": "_y_"}, {"io.prefect.version": "mine"},
    {"app.kubernetes.io/name": "mine"}, {"a": "x/y:z@1"}, {"a_b.c-d": "1.2_3-4"}, {"pre_fix/k": "v"}, {"a": "{{ prefect.variables.text }}"},
    {"a": 1}, {"a": None}, {"a": True}, {"a": ["x"]}, None, [], "text", {},
]  # fmt: skip

# What a typed field may find. Wrong types must be refused.
TYPED = [
    None, True, False, 0, 1, 2, -1, 1.0, 1.5, "", "text", "true", "No", "on", "5", "5.0", " 7 ", "1_000", "128m", [], ["a"], [1], [None], {},
    {"a": "b"}, {"a": 1}, {"a": None},
]  # fmt: skip
FIELDS = {
    "process": ["command", "env", "labels", "name", "stream_output", "working_dir"],
    "docker": [
        "command", "env", "labels", "name", "image", "registry_credentials", "image_pull_policy", "networks", "network_mode", "auto_remove",
        "volumes", "stream_output", "mem_limit", "memswap_limit", "privileged", "container_create_kwargs",
    ],
    "kubernetes": [
        "command", "env", "labels", "name", "annotations", "namespace", "job_manifest", "cluster_config", "job_watch_timeout_seconds",
        "pod_watch_timeout_seconds", "stream_output",
    ],
}  # fmt: skip


def cases(kind: str, templates: dict):
    """Every case of a kind of pool, as (name, given)."""
    groups = [defaults, identity, placeholders, precedence, environment, dotted, typed, names, labels, hostile, composed]
    groups += {"process": [process], "docker": [docker], "kubernetes": [kubernetes]}[kind]
    for group in groups:
        seen = collections.Counter()
        for name, given in group(kind, templates):
            seen[name] += 1
            yield f"{group.__name__}/{name}/{seen[name]}", {"template": kind, **given}


def given(template=None, deployment=None, flow_run=None, **others) -> dict:
    """What a case says: job variables of the deployment and of the flow run, and whatever else."""
    said = dict(others)
    if template is not None:
        said["template"] = template
    if deployment is not None:
        said["deployment_variables"] = deployment
    if flow_run is not None:
        said["flow_run_variables"] = flow_run
    return said


def probe(kind: str, value, **variables) -> dict:
    """A template with a value in a place that takes any JSON; of a process, an environment variable, which is written as a text."""
    properties = {name: {"default": default} for name, default in variables.items()}
    configuration = {"command": "{{ command }}", "name": "{{ name }}"}
    if kind == "process":
        configuration["env"] = {"PROBE": value}
    elif kind == "docker":
        configuration["container_create_kwargs"] = {"probe": value, "list": ["before", value, "after"]}
    else:
        configuration["job_manifest"] = manifest()
        configuration["job_manifest"]["spec"]["template"]["spec"]["probe"] = {"probe": value, "list": ["before", value, "after"]}
    return {"job_configuration": configuration, "variables": {"type": "object", "properties": properties}}


def manifest() -> dict:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "{{ name }}-", "labels": "{{ labels }}"},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "spec": {
                    "parallelism": 1,
                    "completions": 1,
                    "restartPolicy": "Never",
                    "containers": [{"name": "prefect-job", "env": "{{ env }}", "args": "{{ command }}", "image": "i:1"}],
                }
            },
        },
    }


# === groups that every kind has ===


def defaults(kind, templates):
    yield "own", given()
    yield "registry", given(template=f"{kind}-registry")
    everything = {"name": "job", "env": {"A": "1"}, "labels": {"l": "v"}, "command": "python 'my flow.py'"}
    for template in (kind, f"{kind}-registry"):
        yield f"all-common-{template}", given(template=template, deployment=everything)
        yield f"from-run-{template}", given(template=template, flow_run=everything)
        yield f"nulls-{template}", given(template=template, deployment=dict.fromkeys(everything))
        yield f"nulls-from-run-{template}", given(template=template, deployment=everything, flow_run=dict.fromkeys(everything))
        yield f"unknown-{template}", given(template=template, deployment={"no_such_variable": {"a": 1}, "namespace_": 2})


def identity(kind, _):
    flow_run = {**FLOW_RUN, "deployment_id": None}
    yield "no-deployment", given(flow_run={"env": {"A": "1"}}) | {"flow_run": flow_run, "deployment": None}
    yield "worker-id", given(worker={"name": "w", "id": "99999999-9999-4999-8999-999999999999"})
    yield "no-settings", given(settings={})
    yield "settings", given(settings={**COMMON["settings"], "PREFECT_LOGGING_LEVEL": "DEBUG", "PREFECT_WORKER_QUERY_SECONDS": "3.0"})
    for updated in (None, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05.123456+02:00", "2026-01-02T03:04:05.000001Z"):
        yield "updated", given() | {"deployment": {**DEPLOYMENT, "updated": updated}}
    for name in NAMES[:44]:
        if name:
            yield "names", {
                "flow_run": {**FLOW_RUN, "name": name},
                "flow": {**FLOW, "name": name.replace("/", " ").replace("%", " ")},
                "deployment": {**DEPLOYMENT, "name": name.replace("/", " ")},
                "pool": {**COMMON["pool"], "name": name.replace("/", " ")},
                "worker": {"name": name.replace("/", " ")},
            }


def placeholders(kind, _):
    deep = {"a": {"b": [{"c": "found"}, 2]}, "a-b": 1, "a_b": 2, "text": "word", "n": None, "0": "never"}
    known = {"w": "W", "deep": deep, "größe": {"ß": 1}, "变量": "ok", "v²": 2, "a$b": 3}
    # One kind gets every combination, because the code is the same for all of them.
    thorough = kind == "docker"
    for form in FORMS:
        for value in VALUES if thorough or form in FORMS[:1] else VALUES[3::9]:
            yield "value", given(probe(kind, form, w="W"), deployment={"v": value})
    for form in PATHS + ENVIRONMENT_FORMS:
        yield "form", given(probe(kind, form, **known))
    for form in BLOCK_FORMS + VARIABLE_FORMS:
        name = "odd-ref" if form in ({"$ref": "text"}, {"$ref": None}) else "lookup"
        yield name, given(probe(kind, form, w="W"))
        if thorough:
            yield f"{name}-in-value", given(probe(kind, "{{ v }}", w="W"), deployment={"v": form})
    for value in VALUES if thorough else []:
        yield "literal", given(probe(kind, value))
    yield "nested", given(probe(kind, {"a": ["{{ v }}", {"b": "{{ missing }}"}, ["{{ missing }}"]], "{{ v }}": "key"}), deployment={"v": [1]})


def precedence(kind, templates):
    """Who wins: schema, deployment, flow run."""
    value = {"name": "n-{}", "command": "c-{}", "labels": {"l-{}": "{}"}, "env": {"E-{}": "{}", "BOTH": "{}"}}
    value |= {
        "process": {"stream_output": "{}", "working_dir": "/{}"},
        "docker": {"image": "i:{}", "networks": ["{}"], "container_create_kwargs": {"k-{}": "{}", "both": "{}"}},
        "kubernetes": {"image": "i:{}", "annotations": {"a-{}": "{}"}, "namespace": "n-{}"},
    }[kind]
    for name, shape in value.items():
        for who in itertools.product((False, True), repeat=3):
            schema, deployment, flow_run = (_written(shape, by) if on else None for by, on in zip("sdr", who))
            template = copy.deepcopy(_slim(templates[kind]))
            if schema is not None:
                template["variables"]["properties"][name] = {"default": schema}
            yield name, given(
                template,
                deployment={name: deployment} if deployment is not None else {},
                flow_run={name: flow_run} if flow_run is not None else {},
            )
        for below, above in itertools.product(("schema", "deployment"), (None, "", {}, [], 0, False) if kind == "process" else (None, "")):
            template = copy.deepcopy(_slim(templates[kind]))
            if below == "schema":
                template["variables"]["properties"][name] = {"default": _written(shape, "s")}
                yield f"{name}-over-schema", given(template, deployment={name: above})
            elif not (name == "env" and above in (None, 0, False)):
                yield f"{name}-over-deployment", given(template, deployment={name: _written(shape, "d")}, flow_run={name: above})


def _written(shape, by):
    if isinstance(shape, str):
        return shape.replace("{}", by)
    if isinstance(shape, list):
        return [_written(item, by) for item in shape]
    return {_written(key, by): _written(item, by) for key, item in shape.items()}


def _slim(template):
    """A template without its prose."""
    kept = ("default", "type")
    properties = template["variables"]["properties"]
    slim = {name: {key: schema[key] for key in kept if key in schema} for name, schema in properties.items()}
    return {"job_configuration": template["job_configuration"], "variables": {"type": "object", "properties": slim}}


def environment(kind, templates):
    """The special merge of `env`."""
    literal = {"LIT": "{{ command }}", "SHARED": "template", "N": None}
    default = {"DEF": "{{ $SECRETX }}", "SHARED": "default", "GONE": None, "NUM": 3, "FLAG": True}
    said = {"DEP": "{{ command }}", "SHARED": "deployment", "HOME2": "{{ $HOME }}", "PREFECT_API_KEY": None, "F": 1.5, "DEF": None}
    over = {"RUN": "{{ prefect.variables.number }}", "SHARED": "run", "LIST": [1, "x"], "PREFECT__FLOW_ID": "mine", "BLK": "{{ prefect.blocks.secret.token }}"}
    for in_template, schema, deployment, flow_run in itertools.product(
        ("{{ env }}", literal, {}, None), (None, default, {}), (None, said), (None, over)
    ):
        template = copy.deepcopy(_slim(templates[kind]))
        template["job_configuration"]["env"] = in_template
        if in_template is None:
            del template["job_configuration"]["env"]
        if schema is not None:
            template["variables"]["properties"]["env"] = {"default": schema}
        yield "merge", given(
            template,
            deployment={"command": "cmd", **({"env": deployment} if deployment else {})},
            flow_run={"env": flow_run} if flow_run else {},
        )
    for value in ("x=y", "text", 5, True, ["A=1"], [{"name": "A", "value": "1"}], [["A", "1"]], [], "", 0, False, {"A": {"b": 1}}, {"A B": "c"}, {"": "x"}, {"A=B": "x"}, {"A\0": "x"}):
        name = "impossible-name" if str(value) in ("{'': 'x'}", "{'A=B': 'x'}", "{'A\\x00': 'x'}") else "shape"
        yield name, given(deployment={"env": value})
        yield f"{name}-over-default", given(_with_default(kind, templates, "env", {"D": "1"}), deployment={"env": value})
        yield f"{name}-as-default", given(_with_default(kind, templates, "env", value), deployment={"env": {"A": "1"}})
    yield "values", given(deployment={"env": {f"V{index}": value for index, value in enumerate(VALUES)}})
    yield "order", given(deployment={"env": {"Z": "1", "A": "$(Z)", "PREFECT_X": "2", "B": "$(A)"}}, flow_run={"env": {"C": "3", "A": "4"}})


def _with_default(kind, templates, name, value):
    template = copy.deepcopy(_slim(templates[kind]))
    template["variables"]["properties"][name] = {"default": value}
    return template


def dotted(kind, templates):
    for said in (
        {"env.A": "1"}, {"env.A": "1", "env": {"B": "2"}}, {"env": {"A": "plain"}, "env.A": "dotted"}, {"env.A.B": "1"}, {"env.A": "1", "env": None},
        {"env.A": "1", "env": "text"}, {"labels.a": "1", "labels.b": "2"}, {"labels.a": "1", "labels": {"b": "2", "a": "3"}}, {"env.": "x"}, {".env": "x"},
        {".": "x"}, {"env..A": "x"}, {"env[A]": "x"}, {"env[A].": "x"}, {"labels.my.org/team": "x"}, {"env.A": "1", "env.A.B": "2"}, {"env.A.B": "2", "env.A": "1"},
        {"x.y": 1, "x": {"z": 2}}, {"name.a": "1"}, {"command.x": "1", "command": "c"}, {"env.A": None}, {"env.A": 5, "env.B": [1]}, {"env.A[0]": "x"},
        {"labels": {"x": "1"}, "labels.x.y": "2"}, {"a.b.c.d": {"e": 1}, "a": {"b": {"c": {"f": 2}}}},
    ):  # fmt: skip
        name = "impossible-name" if said in ({"env.": "x"}, {"env..A": "x"}) else "key"
        yield name, given(deployment=said)
        if kind != "process":
            continue
        yield f"{name}-of-run", given(flow_run=said)
        yield f"{name}-of-run-over-plain", given(deployment={"env": {"A": "dep", "X": "dep"}, "labels": {"a": "dep"}}, flow_run=said)
        yield f"{name}-over-default", given(_with_default(kind, templates, "env", {"A": "default", "D": "1"}), deployment=said)


def typed(kind, _):
    shared = [] if kind == "process" else FIELDS["process"][:4]
    for field, value in itertools.product([field for field in FIELDS[kind] if field not in shared], TYPED):
        configuration = {"job_manifest": manifest()} if kind == "kubernetes" else {}
        yield field, given({"job_configuration": {**configuration, field: value}, "variables": {}})


def names(kind, _):
    for name in NAMES:
        yield "variable", given(deployment={"name": name})
    for name in ("{{ name }}", "x-{{ name }}", "{{ ctx.flow.name }}", "pre {{ ctx.flow_run.name }}", "{{ missing }}", None, ""):
        template = probe(kind, 1)
        template["job_configuration"]["name"] = name
        yield "template", given(template)
        yield "template-with-value", given(template, deployment={"name": "{{ ctx.flow.name }} & {{ ctx.flow_run.name }}"})


def labels(kind, _):
    for value in LABELS:
        yield "deployment", given(deployment={"labels": value})
        if isinstance(value, dict):
            yield "run", given(deployment={"labels": {"from": "deployment"}}, flow_run={"labels": value})


def hostile(kind, templates):
    """Templates nobody should have."""
    whole = _slim(templates[kind])
    configuration, variables = whole["job_configuration"], whole["variables"]
    for template in (
        {}, {"job_configuration": configuration}, {"variables": variables}, {"job_configuration": configuration, "variables": {}},
        {"job_configuration": {}, "variables": {}}, {"job_configuration": [], "variables": {}}, {"job_configuration": None, "variables": {}},
        {"job_configuration": "{{ x }}", "variables": {}}, {"job_configuration": configuration, "variables": {"properties": {}}},
        {"job_configuration": configuration, "variables": {"properties": {"name": {}}}}, {"job_configuration": configuration, "variables": None},
        {"job_configuration": configuration, "variables": []}, {"job_configuration": configuration, "variables": {"properties": None}},
        {"job_configuration": configuration, "variables": {"properties": []}}, {"job_configuration": configuration, "variables": {"properties": {"name": None}}},
        {"job_configuration": configuration, "variables": {"properties": {"name": "text"}}}, {"job_configuration": configuration, "variables": {"properties": {"name": ["default"]}}},
        {"job_configuration": {**configuration, "unknown": "{{ x }}", "more": {"a": [1]}}, "variables": variables, "extra": 1},
        {"job_configuration": configuration, "variables": {**variables, "required": ["image", "nope"], "definitions": {"a": {"default": 1}}, "additionalProperties": False}},
        {"job_configuration": {**configuration, "name": "{{ a }}"}, "variables": {"properties": {"a": {"default": "{{ b }}"}, "b": {"default": "B"}}}},
        {"job_configuration": {**configuration, "name": "{{ a.b }}"}, "variables": {"properties": {"a": {"properties": {"b": {"default": "inner"}}}}}},
        {"job_configuration": {**configuration, "labels": {"{{ a }}": "x{{ a }}", "n": "{{ none }}"}}, "variables": {"properties": {"a": {"default": "A"}}}},
        {"job_configuration": {**configuration, "env": ["{{ a }}"]}, "variables": {"properties": {"a": {"default": "A"}}}},
        {"job_configuration": {**configuration, "env": "{{ a }}{{ b }}"}, "variables": {}}, {"job_configuration": {**configuration, "env": 5}, "variables": {}},
    ):  # fmt: skip
        properties = (template.get("variables") or {}).get("properties") if isinstance(template.get("variables"), dict) else None
        odd = isinstance(properties, dict) and any(schema is None or isinstance(schema, list) for schema in properties.values())
        name = "odd-schema" if odd else "template"
        yield name, given(template)
        yield f"{name}-and-values", given(template, deployment={"name": "n", "env": {"A": "1"}, "a": {"b": "given"}})
    deep = "end"
    for _ in range(40):
        deep = {"d": [deep]}
    yield "deep", given(probe(kind, deep))
    yield "deep-value", given(probe(kind, "{{ v }}"), deployment={"v": deep})
    yield "long", given(probe(kind, "{{ w }}" * 200, w="W" * 50))
    yield "default-null", given(_with_default(kind, templates, "name", None), deployment={})
    ref = {"$ref": {"block_document_id": SECRET_ID}}
    yield "default-ref", given(_with_default(kind, templates, "labels", ref))
    yield "default-ref-with-env", given(_with_default(kind, templates, "env", ref), deployment={"env": {"A": "1"}})


def composed(kind, templates):
    """Templates and values put together at random, the same each time."""
    dice = random.Random(f"golden {kind}")
    lookups = BLOCK_FORMS[:12] + VARIABLE_FORMS
    forms = FORMS + PATHS + ENVIRONMENT_FORMS + lookups

    # A value has no placeholders of the first pass: whether the reference fills those in again depends on the order of a Python set.
    def value(depth, texts=lookups):
        choice = dice.random()
        if depth and choice < 0.2:
            return [value(depth - 1, texts) for _ in range(dice.randrange(4))]
        if depth and choice < 0.4:
            return {dice.choice("abcdefg") * dice.randrange(1, 3): value(depth - 1, texts) for _ in range(dice.randrange(4))}
        if choice < 0.6:
            return dice.choice(VALUES)
        return dice.choice(["", "x ", "ß"]) + dice.choice(texts) + dice.choice(["", " y"])

    def variables():
        said = {name: value(2) for name in ("v", "w", "deep", "größe") if dice.random() < 0.6}
        for name in ("name", "command"):
            if dice.random() < 0.4:
                said[name] = dice.choice(NAMES[:30] if name == "name" else ["run it", "a 'b c'", ""])
        for name in ("env", "labels"):
            if dice.random() < 0.5:
                said[name] = {dice.choice("ABCDE"): str(value(0)) if name == "labels" else value(1) for _ in range(3)}
            if dice.random() < 0.2:
                said[f"{name}.{dice.choice('ABC')}"] = "dotted"
        return said

    for _ in range(120):
        template = probe(kind, value(3, forms))
        template["job_configuration"]["env"] = dice.choice(["{{ env }}", {"A": value(0, forms), "T": value(1, forms)}])
        template["job_configuration"]["labels"] = "{{ labels }}"
        template["variables"]["properties"] = {name: {"default": default} for name, default in variables().items()}
        yield "random", given(template, deployment=variables(), flow_run=variables() if dice.random() < 0.5 else {})


# === groups of one kind ===


def process(_, templates):
    for command in ("python -m prefect.engine", "prefect flow-run execute", "echo 'a b'", "echo \"", " ", "{{ prefect.variables.text }} --x", "日本 語"):
        yield "command", given(deployment={"command": command})
    for directory in (".", "./a", "a//b/./c", "/", "/x/", "../up", "~/x", "a b", "{{ $HOME }}/x", "{{ prefect.variables.text }}"):
        yield "directory", given(_with_default("process", templates, "working_dir", directory))
        yield "directory-from-run", given(flow_run={"working_dir": directory})
    yield "inherited", given(environment={"PREFECT_API_URL": "http://env", "A": "env", "B": "env"}, deployment={"env": {"A": "job", "B": None}})


def docker(_, templates):
    for image in (
        "img", "img:1", "img:latest", "org/img", "org/img:latest", "org/img:3.8", "reg:5000/img", "reg:5000/img:2", "a/b@sha256:00", "img@sha256:00",
        "img:1@sha256:00", "a/b/c:x", "reg:5000/a/b@sha256:00", "a/b:c:d", "img:1:2", "a@b@c", "", None, "{{ prefect.variables.text }}:1",
    ):  # fmt: skip
        yield "image", given(deployment={"image": image})
    for policy in ("IfNotPresent", "Always", "IfPossible", "Never", "never", None, "", 1):
        yield "policy", given(deployment={"image": "org/img:1", "image_pull_policy": policy})
    urls = [
        "http://localhost:4200/api", "http://127.0.0.1:4200/api", "https://127.0.0.1/api", "http://localhost", "http://[::1]:4200/api", "http://u:p@localhost:4200",
        "http://0.0.0.0:4200", "http://host.docker.internal:4200/api", "localhost:4200", "//localhost/x", "http://api.example.com/?x=localhost", "HTTP://LOCALHOST/",
        " http://localhost:4200", "http://localhost#x", "", "http://[bad", "http://localhost.example.com",
    ]  # fmt: skip
    for url, mode, networks in itertools.product(urls, (None, "host", "bridge"), ([], ["net"])):
        said = {"network_mode": mode, "networks": networks}
        yield "inherited-url", given(settings={"PREFECT_API_URL": url}, deployment=said)
        if mode is None:
            yield "own-url", given(settings={"PREFECT_API_URL": "http://localhost:1"}, deployment={**said, "env": {"PREFECT_API_URL": url}})
            yield "url-without-setting", given(settings={}, deployment={**said, "env": {"PREFECT_API_URL": url}})
    yield "url-removed", given(settings={"PREFECT_API_URL": "http://localhost:1"}, deployment={"env": {"PREFECT_API_URL": None}})
    yield "no-url", given(settings={})
    yield "networks", given(deployment={"networks": ["a", "b"], "network_mode": "none"})
    for hosts in ({"db": "10.0.0.1"}, {"host.docker.internal": "1.2.3.4"}, ["db:10.0.0.1", "x:::1"], ["db"], {}, []):
        for url in ("http://localhost:4200/api", "https://api.example.com/api"):
            if not (hosts == ["db"] and "example" in url):
                yield "hosts", given(settings={"PREFECT_API_URL": url}, deployment={"container_create_kwargs": {"extra_hosts": hosts, "shm_size": "1g"}})
    for volume in (
        "/a:/b", "/a:/b:ro", "/a:/b:rw", "/a:/b:z", "/a:/b:ro,z", "name:/b", "name:b", "name:/b:ro", "na me:/b", "/anonymous", "anonymous", "./rel:/b", ".:/b", "..:/b",
        "../up:/b", "./a/../c:/b", "rel/dir:/b", "~/x:/b", "$HOME:/b", "$(pwd):/b", "/a:b", "./a:b", "C:\\x:/b", "\\\\host\\share:/b", "", " ", " /a:/b ", ":/b", "/a:",
        "/a:/b:", "a:b:c:d", "/a", "/a/", ".\\win:/b", "-x:/b", "x_.-:/b", "日本:/b", "/日本:/b", "/a:/b:ro:x", "/a\n:/b",
    ):  # fmt: skip
        yield "volume", given(deployment={"volumes": [volume]})
    yield "volumes", given(deployment={"volumes": ["/a:/b", "cache:/c", "/d"]})
    for limit in ("128m", "1g", "1.5g", "-1", "5", "GiB", "1gb"):
        yield "memory", given(deployment={"mem_limit": limit, "memswap_limit": limit, "privileged": True, "auto_remove": True})
    reference = {"$ref": {"block_document_id": REGISTRY_ID}}
    plain = {"username": "u", "password": "p", "registry_url": "r"}
    for credentials in (
        reference, "{{ prefect.blocks.docker-registry-credentials.registry }}", plain, {**plain, "reauth": False}, {**plain, "reauth": "no"}, {**plain, "extra": 1},
        {"username": "u"}, {**plain, "password": 5}, {**plain, "username": None}, {**plain, "reauth": None}, "text", [], {}, {"$ref": {"block_document_id": SECRET_ID}},
    ):  # fmt: skip
        yield "credentials", given(deployment={"registry_credentials": credentials})
        yield "credentials-as-default", given(_with_default("docker", templates, "registry_credentials", credentials))
    for extra in (
        {"shm_size": "256m"}, {"environment": {"A": "1"}}, {"network": "n"}, {"volumes": ["/a:/b"]}, {"labels": {"a": "b"}, "image": "x", "name": "y", "command": "z"},
        {"device_requests": [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]}, {"ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}], "init": True},
        {"privileged": True, "mem_limit": "1g", "network_mode": "host", "auto_remove": True, "env": {"A": "1"}, "stream_output": False}, {"user": "{{ $HOME }}"},
        {"nonsense": {"a": [None]}}, {"container_create_kwargs": {"a": 1}}, {"": 1}, {"tmpfs": {"/x": "size={{ command }}"}}, {"env.A": "x"},
    ):  # fmt: skip
        yield "kwargs", given(deployment={"container_create_kwargs": extra})
        yield "kwargs-as-default", given(_with_default("docker", templates, "container_create_kwargs", extra))
    for command in ("a 'b c' d", "a \"b", "sh -c 'x y'", " ", "a\\", "echo $HOME # no", "日本 '語 x'"):
        yield "command", given(deployment={"command": command})


def kubernetes(_, templates):
    everything = {
        "image": "i:2", "service_account_name": "sa", "image_pull_policy": "Always", "backoff_limit": 3, "finished_job_ttl": 60, "cpu_request": "1", "cpu_limit": "2",
        "memory_request": "1Gi", "memory_limit": "2Gi", "namespace": "ns", "annotations": {"a/b": "c d", "ключ": "значение"}, "job_watch_timeout_seconds": 5,
        "pod_watch_timeout_seconds": 6, "stream_output": False,
    }  # fmt: skip
    for template in ("kubernetes", "kubernetes-registry"):
        yield "everything", given(template=template, deployment=everything)
        for name in everything:
            yield f"one-{name}", given(template=template, deployment={name: everything[name]})
            yield f"null-{name}", given(template=template, deployment={name: None})
    for reference in (
        {"$ref": {"block_document_id": CLUSTER_ID}}, "{{ prefect.blocks.kubernetes-cluster-config.cluster }}", {"config": {}, "context_name": "c"}, {"config": {}}, {},
        {"config": {"a": 1}, "context_name": 5}, {"config": None, "context_name": "c"}, {"config": "a: 1", "context_name": "c"}, {"$ref": {"block_document_id": SECRET_ID}},
    ):  # fmt: skip
        name = "cluster-text" if isinstance(reference, dict) and reference.get("config") == "a: 1" else "cluster"
        yield name, given(deployment={"cluster_config": reference})
    for number, (name, change) in enumerate(_changes()):
        changed = manifest()
        change(changed)
        template = probe("kubernetes", 1)
        template["job_configuration"] |= {"job_manifest": changed, "env": "{{ env }}", "labels": "{{ labels }}", "annotations": "{{ annotations }}", "namespace": "{{ namespace }}"}
        yield f"manifest-{name}", given(template)
        if number % 4:
            continue
        said = {"env": {"A": "1", "PREFECT_API_KEY": None}, "labels": {"l b": "v w"}, "annotations": {"a b": "c d"}, "name": "My {{ ctx.flow.name }}", "namespace": "ns", "command": "run 'it now'"}
        yield f"manifest-{name}-with-values", given(template, deployment=said)
    lists = (
        [{"name": "A", "value": "1"}], [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}], [{"name": "A"}], [{"value": "1"}], [{}], [{"name": "A", "value": None}],
        [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"name": "A", "value": "x"}], [{"name": "B", "value": "1"}, {"name": "A", "value": "$(B)"}],
        [{"name": "PREFECT_API_KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}], ["A=1"], [None], [5],
        [{"name": "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}],
        [{"name": "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR", "value": "mine"}], [{"valueFrom": {"fieldRef": {"fieldPath": "x"}}}], [{"name": "A", "value": "{{ prefect.variables.text }}"}],
        [{"name": "N", "value": 3}, {"name": "F", "value": True}],
    )  # fmt: skip
    for env in lists:
        name = "env-list-no-texts" if env == lists[-1] else "env-list"
        yield name, given(deployment={"env": env})
        yield f"{name}-from-run", given(deployment={"env": [{"name": "D", "value": "d"}]}, flow_run={"env": env})
        yield f"{name}-as-default", given(_with_default("kubernetes", templates, "env", env))
        template = _slim(copy.deepcopy(templates["kubernetes"]))
        template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"][0]["env"] = env
        yield "env-in-manifest", given(template, deployment={"env": {"A": "job", "C": "c"}})
    for behavior in ("mine", "", None):
        for limit in (0, 1, None):
            said = {"env": {"PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR": behavior}, "backoff_limit": limit}
            yield "sigterm", given(deployment=said)
    for annotations in LABELS:
        yield "annotations", given(deployment={"annotations": annotations})


def _changes():
    """Edits that people make to the job manifest, good and bad."""

    def pod(manifest):
        return manifest["spec"]["template"]["spec"]

    def main(manifest):
        return pod(manifest)["containers"][0]

    def put(find, **fields):
        return lambda manifest: find(manifest).update(fields)

    def drop(find, name):
        return lambda manifest: find(manifest).pop(name)

    def both(*changes):
        return lambda manifest: [change(manifest) for change in changes]

    whole, metadata, spec = (lambda m: m), (lambda m: m["metadata"]), (lambda m: m["spec"])
    sidecar = {"name": "sidecar", "image": "s"}
    yield "unchanged", lambda manifest: None
    for name in ("apiVersion", "kind", "metadata", "spec"):
        yield f"no-{name}", drop(whole, name)
        for value in (None, "text", {}, [], 1):
            yield f"{name}-other", put(whole, **{name: value})
    for name in ("generateName", "labels"):
        yield f"no-{name}", drop(metadata, name)
    for name in ("annotations", "labels", "namespace", "name", "generateName"):
        for value in (None, "text", "-", "None-", "{{ missing }}-", "{{ name }}", {}, {"a b": "c d"}, {"n": 1}, [], 5, False):
            yield f"metadata-{name}", put(metadata, **{name: value})
    for value in (0, 1, 0.0, False, None, "0", "{{ backoff_limit }}"):
        yield "backoff", put(spec, backoffLimit=value)
    yield "no-backoff", drop(spec, "backoffLimit")
    for name in ("parallelism", "completions", "restartPolicy", "containers"):
        yield f"no-{name}", drop(pod, name)
        for value in (1, 1.0, True, 2, "1", "Never", "OnFailure", None, [], {}):
            yield f"pod-{name}", put(pod, **{name: value})
        yield f"moved-{name}", both(lambda m, name=name: m["spec"].update({name: pod(m)[name]}), drop(pod, name))
    yield "no-parallelism-limit-one", both(drop(pod, "parallelism"), put(spec, backoffLimit=1))
    yield "no-counts-one-spare", both(drop(pod, "parallelism"), drop(pod, "completions"), put(spec, backoffLimit=1))
    yield "no-counts-two-spare", both(drop(pod, "parallelism"), drop(pod, "completions"), put(spec, backoffLimit=1, x=1))
    yield "no-policy-spare", both(drop(pod, "restartPolicy"), put(main, imagePullPolicy="Never"))
    yield "sidecar-second", lambda m: pod(m)["containers"].append(sidecar)
    yield "sidecar-first", lambda m: pod(m)["containers"].insert(0, sidecar)
    yield "bare-second", lambda m: pod(m)["containers"].append({"name": "prefect-job"})
    yield "bare-middle", lambda m: pod(m)["containers"].extend([{"name": "prefect-job"}, sidecar])
    yield "bare-only", lambda m: pod(m).update(containers=[{"name": "prefect-job"}])
    yield "containers-texts", lambda m: pod(m).update(containers=["prefect-job"])
    yield "containers-null", lambda m: pod(m).update(containers=[None])
    yield "two-sidecars", lambda m: pod(m)["containers"].extend([sidecar, {**sidecar, "name": "other"}])
    yield "init-and-volumes", put(pod, initContainers=[sidecar], volumes=[{"name": "v", "emptyDir": {}}], nodeSelector={"a": "b"}, tolerations=[{"operator": "Exists"}])
    for name in ("name", "env", "args", "image"):
        yield f"no-container-{name}", drop(main, name)
        for value in (None, "", "text 'x y'", [], ["a", 1], {}, {"a": 1}, 5, "{{ missing }}"):
            yield f"container-{name}", put(main, **{name: value})
    yield "command-in-container", put(main, command=["sh", "-c"], args=["{{ command }}"])
    yield "pod-metadata", lambda m: m["spec"]["template"].update(metadata={"labels": {"own label": "x y"}, "annotations": {"own note": "x y"}})
    yield "pod-metadata-null", lambda m: m["spec"]["template"].update(metadata=None)
    yield "pod-labels-null", lambda m: m["spec"]["template"].update(metadata={"labels": None})
    yield "pod-annotations-null", lambda m: m["spec"]["template"].update(metadata={"annotations": None})
    yield "pod-label-number", lambda m: m["spec"]["template"].update(metadata={"labels": {"a": 1}})
    yield "annotations-set", put(metadata, annotations={"note a": "{{ name }}", "n": 1})
    yield "status", put(whole, status={"x": 1}, extra=[1])
    yield "template-null", lambda m: m["spec"].update(template=None)
    yield "no-template", drop(spec, "template")
    yield "no-pod", lambda m: m["spec"]["template"].pop("spec")
