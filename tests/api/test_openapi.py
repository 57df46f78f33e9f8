"""The contract beside a live daemon: every operation, parameter and range that openapi.yaml tells is the daemon's."""
import pytest
import yaml

from conftest import ROOT

CONTRACT = yaml.safe_load((ROOT / "openapi.yaml").read_text())
SCHEMAS = CONTRACT["components"]["schemas"]
METHODS = ("get", "post", "put", "patch", "delete")
OPERATIONS = [(method, path) for path, item in CONTRACT["paths"].items() for method in item if method in METHODS]
SPEC = SCHEMAS["TaskSpec"]["properties"]


def resolve(node):
    while "$ref" in node:
        target = CONTRACT
        for key in node["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        node = target
    return node


def references(node):
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from references(child)


def parameters(method, path):
    item = CONTRACT["paths"][path]
    return [resolve(p) for p in [*item.get("parameters", []), *item[method].get("parameters", [])]]


def concrete(path):
    return path.replace("{id}", "00000000-0000-4000-8000-000000000000").replace("{name}", "driver.exec")


def bounds():
    """Each integer of the spec with a bound: (group or None, name, a value just outside)."""
    for group, fields in ((None, SPEC), *((g, SPEC[g]["properties"]) for g in ("resources", "logs"))):
        for name, schema in fields.items():
            for key, step in (("minimum", -1), ("maximum", 1)):
                if key in schema:
                    yield group, name, schema[key] + step


def fields(schema, prefix=""):
    """Pointer of each field that has a name, through objects and lists."""
    schema = resolve(schema)
    for name, inner in schema.get("properties", {}).items():
        yield f"{prefix}/{name}"
        yield from fields(inner, f"{prefix}/{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{prefix}/0")


def test_the_contract_is_served_and_has_the_routes(daemon):
    assert daemon.get("/openapi.yaml").body == (ROOT / "openapi.yaml").read_bytes()
    reply = daemon.get("/openapi.json")
    assert reply.headers["Content-Type"] == "application/json" and reply.json == CONTRACT
    for path, item in CONTRACT["paths"].items():
        allow = daemon.request("OPTIONS", concrete(path)).headers["Allow"].split(", ")
        assert set(allow) - {"HEAD", "OPTIONS"} == {m.upper() for m in item if m in METHODS}, path


@pytest.mark.parametrize("pointer", [*fields(SCHEMAS["TaskSpec"]), "/bogus", "/resources/bogus"])
def test_fields_of_the_spec_are_the_daemons(daemon, pointer):
    """A known field complains of its value, an unknown one of itself."""
    value = {"wrong": [1]}
    for key in reversed(pointer.split("/")[1:]):
        value = [value] if key == "0" else {key: value}
    reply = daemon.post("/v1/tasks?dry_run=true", {"command": "/bin/true", **value})
    named = reply.json["errors"][0]
    assert reply.status == 422 and named["pointer"].startswith(pointer), reply.body
    assert (named["pointer"] == pointer and named["detail"] == "unknown field") == ("bogus" in pointer), reply.body


def test_the_daemon_has_no_field_that_the_contract_lacks(daemon):
    plan = daemon.post("/v1/tasks?dry_run=true", {"command": "/bin/true"}).json["spec"]
    for key, value in plan.items():
        assert key in SPEC, key
        if SPEC[key].get("additionalProperties") is False:
            assert set(value) <= set(resolve(SPEC[key])["properties"]), key


def test_the_types_of_events_are_the_daemons(daemon):
    for name in SCHEMAS["Event"]["properties"]["type"]["enum"]:
        assert daemon.get(f"/v1/events?type={name}").status == (400 if name == "lost" else 200), name
    for event in daemon.get("/v1/events").json["items"]:
        assert set(SCHEMAS["Event"]["required"]) <= set(event) <= set(SCHEMAS["Event"]["properties"])
        assert event["type"] in SCHEMAS["Event"]["properties"]["type"]["enum"]


def test_stats_have_what_the_contract_tells(daemon):
    task = daemon.start_task("/bin/sleep", "60")
    now = daemon.get(f"/v1/tasks/{task['id']}/stats?processes=true").json
    schema = SCHEMAS["Stats"]
    assert set(schema["required"]) <= set(now) == set(schema["properties"])
    for part in ("cpu", "memory", "io", "pids", "pressure"):
        assert set(now[part]) == set(schema["properties"][part]["properties"]), part
    assert set(now["processes"][0]) == set(schema["properties"]["processes"]["items"]["properties"])
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_references_lead_somewhere():
    for reference in references(CONTRACT):
        assert resolve({"$ref": reference}), reference


@pytest.mark.parametrize("method,path", OPERATIONS)
def test_every_operation_exists(daemon, method, path):
    body = {} if "requestBody" in CONTRACT["paths"][path][method] else None
    reply = daemon.request(method.upper(), concrete(path), body)
    assert reply.status != 405 and reply.status < 500, reply.body
    if reply.status == 404:  # the task may be missing, the route may not
        assert "{id}" in path and reply.json["code"] == "task_not_found", reply.body


@pytest.mark.parametrize("method,path", OPERATIONS)
def test_path_parameters_are_declared(method, path):
    declared = {p["name"] for p in parameters(method, path) if p["in"] == "path"}
    assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}


@pytest.mark.parametrize("method,path", OPERATIONS)
def test_query_parameters_are_known(daemon, method, path):
    body = {} if "requestBody" in CONTRACT["paths"][path][method] else None
    names = [p["name"] for p in parameters(method, path) if p["in"] == "query"]
    for name in [*names, "bogus"]:
        reply = daemon.request(method.upper(), f"{concrete(path)}?{name}=%21", body)
        unknown = reply.status == 400 and reply.json["code"] == "unknown_parameter"
        assert unknown == (name == "bogus"), (name, reply.status, reply.body)


@pytest.mark.parametrize("group,name,value", list(bounds()))
def test_bounds_are_the_daemons(daemon, group, name, value):
    spec = {group: {name: value}} if group else {name: value}
    reply = daemon.post("/v1/tasks?dry_run=true", {"command": "/bin/true", **spec})
    assert reply.status == 422, reply.body
    assert reply.json["errors"][0]["pointer"] == (f"/{group}/{name}" if group else f"/{name}")


def test_a_task_has_what_the_contract_tells(daemon):
    task = daemon.sh("echo out")
    schema = SCHEMAS["Task"]
    assert set(schema["required"]) <= set(task) <= set(schema["properties"])
    for part in ("exit", "output"):
        assert set(task[part]) <= set(schema["properties"][part]["properties"]), part
    assert set(task["spec"]) <= set(SPEC) and task["state"] in SCHEMAS["State"]["enum"]


def test_a_session_has_what_the_contract_tells(daemon):
    task = daemon.start_task("/bin/sleep", "1000")
    path = f"/v1/tasks/{task['id']}"
    result = daemon.post(f"{path}/exec", {"command": "/bin/true"}).json
    assert set(result) == set(SCHEMAS["ExecResult"]["properties"])
    session = daemon.get(f"{path}/execs/{result['id']}").json
    assert set(session) == set(SCHEMAS["Exec"]["properties"]) and set(session["exit"]) == {"code", "signal"}
    for name in SCHEMAS["ExecSpec"]["properties"]:  # each is known, and null is no value of any
        reply = daemon.post(f"{path}/exec", {"command": "/bin/true", name: None})
        assert reply.status == 422 and "unknown" not in reply.json["detail"], reply.body
    assert daemon.request("DELETE", f"{path}?force=true").status == 204


def test_a_problem_has_what_the_contract_tells(daemon):
    for reply in (daemon.get("/v1/tasks/none"), daemon.post("/v1/tasks", {"command": "/no/such/file"})):
        assert set(SCHEMAS["Problem"]["required"]) <= set(reply.json) <= set(SCHEMAS["Problem"]["properties"])
